//! What needs no binary: names and addresses that may be made; and the whole life of an interface of our own, of a type that this
//! kernel has (it may not have dummies; `tests/node.rs` runs the binary).

#![expect(unsafe_code, reason = "threads in namespaces of their own")]

use std::net::IpAddr;

use netlink_packet_route::link::InfoKind;

use super::{NodeError, Plan, Step, setup, teardown, valid_address, valid_name};
use crate::node::links::Links;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn only_addresses_of_one_host_may_be_made() {
    for good in ["169.254.20.10", "10.96.0.10", "192.0.2.1", "fe80::1", "fd00::a", "2001:db8::1"] {
        assert!(valid_address(ip(good)), "{good}");
    }
    for bad in
        ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.1.2.3", "224.0.0.251", "255.255.255.255", "::", "::1", "ff02::1"]
    {
        assert!(!valid_address(ip(bad)), "{bad}");
    }
    assert!(!valid_address(ip("::ffff:169.254.20.10")));
}

#[test]
fn names_that_the_kernel_or_a_sysctl_would_misread_are_refused() {
    for good in ["segdns", "a", "seg-dns_1.x", "fifteen-octets1"] {
        assert!(valid_name(good), "{good}");
    }
    for bad in ["", ".", "..", "lo", "sixteen-octets-1", "a/b", "a b", "a:b", "a%d", "ä"] {
        assert!(!valid_name(bad), "{bad}");
    }
}

/// Runs `f` in a network namespace of its own. `None` where the system grants none, and CI does not insist on it.
fn in_a_namespace<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let run = std::thread::spawn(|| {
        // SAFETY: takes no pointer; it moves the calling thread alone, which ends with `f`.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
            return Some(f());
        }
        let may_skip =
            std::env::var_os("CI").is_none() || std::env::var_os("SEGDNS_SKIP_NETNS").is_some_and(|v| v == "1");
        assert!(may_skip, "no network namespace: {}", std::io::Error::last_os_error());
        None
    });
    run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A plan whose interface is of a type that every kernel has which can run containers.
fn plan(addresses: &[&str]) -> Plan {
    Plan { kind: InfoKind::Bridge, ..Plan::new("segdns", addresses.iter().map(|a| ip(a)).collect()) }
}

fn lines(plan: &Plan) -> Vec<String> {
    setup(plan).expect("addresses").iter().map(Step::to_string).collect()
}

#[test]
fn an_interface_of_its_own_is_made_once_put_up_again_and_removed() {
    in_a_namespace(|| {
        let plan = plan(&["169.254.20.10", "fd00:20::10"]);
        assert_eq!(lines(&plan), ["169.254.20.10: made on segdns", "fd00:20::10: made on segdns"]);
        let there = ["169.254.20.10: was there already, on segdns", "fd00:20::10: was there already, on segdns"];
        assert_eq!(lines(&plan), there);
        for address in &plan.addresses {
            std::net::UdpSocket::bind((*address, 53)).expect("an address of the node");
        }
        let mut links = Links::open().expect("netlink");
        let index = links.named("segdns").expect("an answer").expect("an interface").index;
        let ours: Vec<_> = links.addresses().expect("addresses").into_iter().filter(|h| h.index == index).collect();
        let of = |ip: IpAddr| ours.iter().find(|h| h.address == ip).expect("held").prefix;
        assert_eq!((of(plan.addresses[0]), of(plan.addresses[1])), (32, 128));
        links.take(ours.iter().find(|h| h.address == plan.addresses[0]).expect("held")).expect("taken");
        assert_eq!(lines(&plan), ["169.254.20.10: made on segdns", there[1]]);
        let down = std::process::Command::new("ip").args(["link", "set", "segdns", "down"]).status();
        if down.is_ok_and(|status| status.success()) {
            // An interface that goes down loses its IPv6 addresses.
            let again = ["interface segdns: was down, is up", there[0], "fd00:20::10: made on segdns"];
            assert_eq!(lines(&plan), again);
        }
        assert_eq!(teardown(&plan).expect("removed"), [Step::Deleted("segdns".to_owned())]);
        assert_eq!(teardown(&plan).expect("removed"), []);
    });
}

#[test]
fn an_interface_of_this_name_that_is_no_dummy_is_left_alone() {
    in_a_namespace(|| {
        lines(&plan(&["169.254.20.10"]));
        let dummy = Plan::new("segdns", vec![ip("169.254.20.10")]);
        for result in [setup(&dummy), teardown(&dummy)] {
            let error = result.expect_err("not ours");
            assert!(matches!(error, NodeError::Foreign(..)));
            let want =
                "interface segdns is there, and is none of type dummy; give --interface a name that nothing else has";
            assert_eq!(error.to_string(), want);
        }
        assert_eq!(lines(&plan(&["169.254.20.10"])), ["169.254.20.10: was there already, on segdns"]);
    });
}

#[test]
fn an_address_of_another_interface_is_left_there() {
    in_a_namespace(|| {
        let other = Plan { kind: InfoKind::Bridge, ..Plan::new("nodelocaldns", vec![ip("169.254.20.10")]) };
        lines(&other);
        let error = setup(&plan(&["169.254.20.10"])).expect_err("taken");
        assert!(error.to_string().starts_with("169.254.20.10 is on interface nodelocaldns already"), "{error}");
        assert_eq!(lines(&other), ["169.254.20.10: was there already, on nodelocaldns"]);
    });
}
