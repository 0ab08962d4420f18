use super::*;

fn config(text: &str) -> Config {
    Config::parse(text, "", |_| None).unwrap()
}

#[test]
fn files_of_sockets_and_upstreams_are_counted() {
    let text = "listen: ['127.0.0.1:53', '[::1]:53']\nforward:\n\
                - {zone: cluster.local, upstreams: ['10.96.0.10:53']}\n\
                - {zone: '.', upstreams: ['/etc/resolv.conf', '192.0.2.1:53']}";
    assert_eq!(own_files(&config(text), 64), 256 + 2 * 129 + 5 * 36);
    assert_eq!(own_files(&config(&format!("{text}\nlimits: {{workers: 2}}")), 64), 256 + 2 * 5 + 5 * 36);
}

#[test]
fn connections_leave_room_for_what_else_is_open() {
    for (asked, limit, own, granted) in [
        (1000, 1_048_576, 500, 1000),
        (20_000, 20_500, 500, 20_000),
        (20_000, 20_499, 500, 19_999),
        (1000, 1024, 500, 524),
        (1000, 512, 500, 128),
        (1000, 2, 500, 1),
        (50, 512, 500, 50),
    ] {
        assert_eq!(within(asked, limit, own), granted, "{asked} with {limit} files of which {own} are others");
    }
}

/// What a process sees: the file of its control groups, limits by file, and memory.
fn seen(groups: &str, limits: &[(&str, &str)]) -> Option<u64> {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("proc/self/cgroup", groups);
    limits.iter().for_each(|(path, text)| write(&format!("sys/fs/cgroup/{path}"), text));
    control_group(root.path())
}

/// The file of a process's control groups, limits by file, and what counts.
type Case = (&'static str, &'static [(&'static str, &'static str)], Option<u64>);

#[test]
fn the_least_limit_of_the_control_groups_around_counts() {
    let cases: [Case; 6] = [
        ("0::/a/b\n", &[("a/b/memory.max", "max\n"), ("a/memory.max", "4096\n")], Some(4096)),
        ("0::/a/b\n", &[("a/b/memory.max", "100\n"), ("a/memory.max", "4096\n")], Some(100)),
        // A container sees its own at the top.
        ("0::/\n", &[("memory.max", "67108864\n")], Some(67_108_864)),
        ("0::/../../kubepods/x\n", &[("memory.max", "67108864\n")], Some(67_108_864)),
        ("5:cpu:/x\n4:memory:/x\n0::/\n", &[("memory/x/memory.limit_in_bytes", "8192\n")], Some(8192)),
        ("0::/a\n", &[], None),
    ];
    for (groups, limits, want) in cases {
        assert_eq!(seen(groups, limits), want, "{groups:?} {limits:?}");
    }
}

#[test]
fn this_machine_has_memory() {
    let (limit, whose) = memory(Path::new("/")).expect("a machine that says how much it has");
    assert!(limit > 1 << 20, "{limit} octets by {whose}");
}
