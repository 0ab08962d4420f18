use super::*;
use crate::mesh::object::{Fault, LOCAL};
use crate::mesh::report::ReportKind;

fn keeper() -> Keeper {
    Keeper::new(Settings { clusters: vec!["cluster1".into()], ..Settings::default() })
}

fn faults(count: usize) -> Vec<Change> {
    let faults = (0..count).map(|n| Fault { text: format!("{n} is bad"), remedy: "mend it".into() }).collect();
    vec![Change::Source { cluster: LOCAL, place: "a".into(), faults }]
}

#[test]
fn only_while_a_change_is_applied_it_is_busy_and_reports_are_those_before() {
    let keeper = keeper();
    keeper.apply(faults(2));
    assert_eq!((keeper.busy(), keeper.report_counts()[ReportKind::SourceFault as usize]), (None, 2));
    keeper.advance(|world, now, pieces| {
        let delta = world.apply_in_pieces(faults(5), now, pieces);
        std::thread::sleep(Duration::from_millis(20));
        assert!(keeper.busy().is_some_and(|busy| busy >= Duration::from_millis(20)));
        assert_eq!(keeper.report_counts()[ReportKind::SourceFault as usize], 2, "nobody waits for it");
        assert!(keeper.look_at_once(|_, _| ()).is_none());
        delta
    });
    assert_eq!((keeper.busy(), keeper.report_counts()[ReportKind::SourceFault as usize]), (None, 5));
}

#[test]
fn each_kind_has_as_many_as_there_are_reports_of_it() {
    let keeper = keeper();
    keeper.apply(faults(3));
    let reports = keeper.look(|world, _| world.reports());
    let counts = keeper.report_counts();
    assert_eq!(counts.iter().sum::<usize>(), 3);
    for (kind, count) in ReportKind::ALL.into_iter().zip(counts) {
        assert_eq!(count, reports.iter().filter(|report| report.kind == kind).count(), "{kind:?}");
    }
}

#[test]
fn who_panics_while_he_looks_keeps_nobody_else_from_looking_and_a_torn_state_is_not_looked_at() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let keeper = keeper();
    let panics = |work: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
    panics(&|| keeper.look(|_, _| panic!("a view")));
    keeper.apply(faults(2));
    assert_eq!(keeper.report_counts()[ReportKind::SourceFault as usize], 2);
    panics(&|| keeper.advance(|_, _, _| panic!("a change")));
    assert!(keeper.look_at_once(|_, _| ()).is_none());
    assert_eq!(keeper.report_counts()[ReportKind::SourceFault as usize], 2);
}
