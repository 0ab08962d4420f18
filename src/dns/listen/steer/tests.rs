use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Type};

use super::*;

/// A group of so many sockets on a port of its own.
fn group(address: &str, count: usize) -> Vec<UdpSocket> {
    let mut address: SocketAddr = address.parse().unwrap();
    let mut group = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from(socket);
        address = socket.local_addr().unwrap();
        group.push(socket);
    }
    group
}

/// How many of 64 datagrams, each from another port of this address, every socket of the group got.
fn got(group: &[UdpSocket], from: &str) -> Vec<usize> {
    let address = group[0].local_addr().unwrap();
    for _ in 0..64 {
        let client = UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0)).unwrap();
        client.send_to(b"?", address).unwrap();
    }
    let count = |socket: &UdpSocket| std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok()).count();
    group.iter().map(count).collect()
}

fn steered(group: &[UdpSocket], parts: &Parts, list: &[&str]) {
    let list: Vec<IpAddr> = list.iter().map(|ip| ip.parse().unwrap()).collect();
    let six = group[0].local_addr().unwrap().is_ipv6();
    let socket = Socket::from(group[0].try_clone().unwrap());
    attach(&socket, &mut program(parts, &list, six)).unwrap();
}

#[test]
fn callers_on_the_list_go_to_their_part_and_others_to_theirs_from_many_ports_to_all_of_it() {
    let parts = Parts { everybody: 0..2, apart: 2..4 };
    let group = group("127.0.0.1:0", 4);
    let eight = ["10.0.0.1", "127.0.0.9", "127.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "127.0.9.9"];
    for (list, apart) in [(&[][..], &[][..]), (&["127.0.0.9"], &["127.0.0.9"]), (&eight, &["127.0.0.9", "127.0.9.9"])] {
        steered(&group, &parts, list);
        for from in ["127.0.0.1", "127.0.0.9", "127.9.0.9", "127.0.9.9"] {
            let [a, b, c, d] = got(&group, from)[..] else { unreachable!() };
            let (own, others) = if apart.contains(&from) { ([c, d], [a, b]) } else { ([a, b], [c, d]) };
            assert_eq!(others, [0, 0], "{from} beside {list:?}");
            assert!(own.iter().all(|count| *count > 8) && own.iter().sum::<usize>() == 64, "{from}: {own:?}");
        }
    }
}

#[test]
fn an_ipv6_caller_is_compared_in_all_of_its_words() {
    let parts = Parts { everybody: 0..2, apart: 2..4 };
    let group = group("[::1]:0", 4);
    for (list, apart) in [
        (&["::1"][..], true),
        (&["fd00::1", "0:0:1::1", "::1:0:0:1", "::1:0:1", "::2", "127.0.0.1"], false),
        (&["fd00::1", "0:0:1::1", "::1:0:0:1", "::1:0:1", "::2", "::3", "::4", "::1"], true),
        // The ninth is beyond what is compared.
        (&["::2", "::3", "::4", "::5", "::6", "::7", "::8", "::9", "::1"], false),
    ] {
        steered(&group, &parts, list);
        let [a, b, c, d] = got(&group, "::1")[..] else { unreachable!() };
        let (own, others) = if apart { ([c, d], [a, b]) } else { ([a, b], [c, d]) };
        assert_eq!(others, [0, 0], "{list:?}");
        assert!(own.iter().all(|count| *count > 8) && own.iter().sum::<usize>() == 64, "{list:?}: {own:?}");
    }
}

#[test]
fn one_worker_gets_everything_but_what_is_apart() {
    let parts = Parts { everybody: 0..1, apart: 1..2 };
    let group = group("127.0.0.1:0", 2);
    steered(&group, &parts, &[]);
    assert_eq!(got(&group, "127.0.0.1"), [64, 0]);
    steered(&group, &parts, &["127.0.0.1"]);
    assert_eq!(got(&group, "127.0.0.1"), [0, 64]);
    assert_eq!(got(&group, "127.0.0.2"), [64, 0]);
}

#[test]
fn a_part_that_the_group_has_not_loses_nothing() {
    let group = group("127.0.0.1:0", 2);
    steered(&group, &Parts { everybody: 4..8, apart: 8..12 }, &["127.0.0.2"]);
    for from in ["127.0.0.1", "127.0.0.2"] {
        assert_eq!(got(&group, from).iter().sum::<usize>(), 64, "{from}");
    }
}
