use super::*;
use crate::dns::count::sample::Sample;
use crate::mesh::object::{Change, LOCAL, Namespace as NamespaceObject, Object, Pod};
use crate::mesh::settings::Settings;
use crate::table::keeper::Keeper;

fn pods(all: &[(&str, &str, [u8; 4])]) -> Keeper {
    let keeper = Keeper::new(Settings { clusters: vec!["cluster1".into()], ..Settings::default() });
    let put = |object| Change::Apply { cluster: LOCAL, object, faults: Vec::new() };
    let mut changes = Vec::new();
    for (namespace, name, address) in all {
        changes.push(put(Object::Namespace(NamespaceObject { name: (*namespace).into(), ..Default::default() })));
        let addresses = [IpAddr::from(*address)].into();
        changes.push(put(Object::Pod(Pod {
            namespace: (*namespace).into(),
            name: (*name).into(),
            addresses,
            ..Pod::default()
        })));
    }
    keeper.apply(changes);
    keeper
}

fn sample(weight: f64, name: &[u8], from: [u8; 4], rcode: u8) -> Sample {
    Sample { weight, name: name.to_vec(), from: from.into(), rcode }
}

#[test]
fn the_busiest_come_first_with_their_share_and_what_came_of_it() {
    let (web, job, nobody) = ([10, 0, 0, 1], [10, 0, 0, 2], [192, 0, 2, 9]);
    let keeper = pods(&[("shop", "web", web), ("batch", "job", job)]);
    let read = [
        Samples {
            of: Duration::from_secs(60),
            samples: vec![
                sample(60.0, b"\x01a\x04acme", web, 0),
                sample(60.0, b"\x01a\x04acme", web, 3),
                sample(120.0, b"\x01b\x04acme", job, 2),
            ],
        },
        // A ring that remembers ten seconds only.
        Samples { of: Duration::from_secs(10), samples: vec![sample(10.0, b"", nobody, 1)] },
    ];
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(160);
    let top = keeper.look(|world, table| top(&read, world, table, 2, now));
    let share = |rate, share, nxdomain, servfail, samples| Share {
        queries_per_second: rate,
        share,
        nxdomain,
        servfail,
        samples,
    };
    assert_eq!(top.all, share(5.0, 1.0, 0.2, 0.4, 4));
    assert_eq!((top.window.seconds, top.window.since.as_str()), (60.0, "1970-01-01T00:01:40Z"));
    let text = serde_json::to_value(&top).unwrap();
    assert_eq!(text["namespaces"][0]["namespace"], "batch");
    assert_eq!(text["namespaces"][1]["namespace"], "shop");
    assert_eq!(top.namespaces.len(), 2, "as many as asked for");
    assert_eq!(top.namespaces[1].share, share(2.0, 0.4, 0.5, 0.0, 2));
    assert_eq!(text["callers"][0]["pod"], "shop/web", "as busy as the job, and before it by address");
    let names: Vec<_> = top.names.iter().map(|row| row.of.name.as_deref()).collect();
    assert_eq!(names, [Some("a.acme"), Some("b.acme")]);
    let all = keeper.look(|world, table| super::top(&read, world, table, 20, now));
    assert_eq!((all.names[2].of.name.clone(), all.namespaces[2].of.namespace.clone()), (None, None));
    assert_eq!(all.callers[2].of, Caller { address: nobody.into(), pod: None });
}

#[test]
fn without_queries_there_is_nothing_to_show() {
    let keeper = pods(&[]);
    let top = keeper.look(|world, table| top(&[], world, table, 20, SystemTime::UNIX_EPOCH));
    assert_eq!((top.all, top.names.len()), (Share::default(), 0));
    assert_eq!(serde_json::to_value(&top).unwrap()["all"]["share"], 0.0);
}
