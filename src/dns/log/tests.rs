use super::*;

const FOR: Duration = Duration::from_secs(600);

fn key(name: &str) -> Key {
    Key::from_text(name).unwrap()
}

fn pod(namespace: &str, name: &str) -> CallerPod {
    CallerPod { namespace: namespace.into(), name: name.into(), searches: None }
}

fn whose(text: &str) -> Whose {
    let mut whose = Whose::default();
    for part in text.split_whitespace() {
        match part.split_once('=').unwrap() {
            ("namespace", value) => whose.namespace = Some(value.into()),
            ("pod", value) => whose.pod = Some(value.into()),
            ("from", value) => whose.from = Some(value.parse().unwrap()),
            (_, value) => whose.name = Some(Suffix::of(&key(value))),
        }
    }
    whose
}

fn wants(log: &QueryLog, caller: Option<&CallerPod>, name: &str, code: u16) -> bool {
    let who = Who { address: [10, 1, 0, 1].into(), pod: caller, segment: None };
    log.is_on() && log.wishes.load().wants(&who, &key(name), code)
}

#[test]
fn a_switch_is_about_those_whom_it_names_and_nobody_else() {
    let web = pod("shop", "web-0");
    let (here, failed) = ("web.shop.mesh.acme", rcode::NXDOMAIN);
    let cases = [
        ("", true),
        ("namespace=shop", true),
        ("namespace=far", false),
        ("namespace=shop pod=web-0", true),
        ("namespace=shop pod=web-1", false),
        ("from=10.1.0.1", true),
        ("from=10.1.0.2", false),
        ("name=web.shop.mesh.acme", true),
        ("name=SHOP.mesh.acme", true),
        ("name=op.mesh.acme", false),
        ("name=x.web.shop.mesh.acme", false),
        ("namespace=shop name=mesh.acme", true),
        ("namespace=far name=mesh.acme", false),
    ];
    for (text, want) in cases {
        let log = QueryLog::default();
        assert!(!wants(&log, Some(&web), here, 0));
        log.switch(&whose(text), Queries::All, FOR, Instant::now()).unwrap();
        assert_eq!(wants(&log, Some(&web), here, 0), want, "{text}");
        log.switch(&whose(text), Queries::Failures, FOR, Instant::now()).unwrap();
        assert_eq!(
            [0, failed].map(|code| wants(&log, Some(&web), here, code)),
            [false, want],
            "{text}: it replaces the former one"
        );
        assert_eq!(log.list().1.len(), 1);
        let strange = !text.contains("namespace") && want;
        assert_eq!(wants(&log, None, here, failed), strange, "{text}: of no pod");
        log.switch(&whose(text), Queries::None, FOR, Instant::now()).unwrap();
        assert!(!log.is_on() && log.list().1.is_empty(), "{text}");
    }
}

#[test]
fn what_is_switched_for_everyone_stands_in_for_the_configuration_until_its_end() {
    let (log, now) = (QueryLog::new(Queries::All), Instant::now());
    assert!(log.is_on());
    log.switch(&whose("namespace=shop"), Queries::All, FOR, now).unwrap();
    log.switch(&Whose::default(), Queries::None, FOR, now).unwrap();
    assert_eq!((log.is_on(), log.list().0, log.list().1.len()), (false, Queries::None, 1), "all other switches end");
    assert_eq!((log.expire(now), log.is_on()), (0, false));
    assert_eq!((log.expire(now + FOR), log.is_on()), (1, true), "the configuration's again");
    log.configure(Queries::None);
    assert!(!log.is_on());
    log.switch(&Whose::default(), Queries::Failures, FOR, now).unwrap();
    log.configure(Queries::All);
    assert_eq!(log.list().0, Queries::Failures);
    assert_eq!((log.expire(now + FOR), log.list().0), (1, Queries::All));
}

#[test]
fn switches_are_bounded_and_those_that_are_over_make_room() {
    let (log, now) = (QueryLog::default(), Instant::now());
    let of = |n: usize| whose(&format!("namespace=n{n}"));
    for n in 0..MOST {
        log.switch(&of(n), Queries::All, FOR, now).unwrap();
    }
    assert_eq!(log.switch(&of(MOST), Queries::All, FOR, now), Err(TooMany));
    assert_eq!(log.list().1.len(), MOST);
    assert_eq!(log.switch(&of(0), Queries::Failures, FOR, now), Ok(()), "one that is there can be changed");
    assert_eq!(log.switch(&of(MOST), Queries::All, FOR, now + FOR), Ok(()));
    assert_eq!(log.list().1.len(), 1);
}

#[test]
fn a_sample_is_that_share_of_all() {
    let log = QueryLog::new(Queries::Sample(0.25));
    let logged = (0..10_000).filter(|_| wants(&log, None, "a.example", 0)).count();
    assert!((2000..3000).contains(&logged), "{logged} of 10000");
}
