//! The loop against a scripted API server, in time that passes only when all wait.

mod script;
mod wire;

use std::time::Duration;

use script::{Answer, Bit, Run, line, service};
use tokio::time::sleep;

const END: &str = r#"{"type":"BOOKMARK","object":{"kind":"Service","apiVersion":"v1","metadata":{"resourceVersion":"100",
"annotations":{"k8s.io/initial-events-end":"true"}},"spec":{}}}"#;

/// A complete list in a stream that then goes on with `more`.
fn streamed(names: &[&str], more: Vec<Bit>) -> Answer {
    let seen = names.iter().map(|name| Bit::Line(line("ADDED", &service(name, 7))));
    Answer::Stream(seen.chain([Bit::Line(END.replace('\n', ""))]).chain(more).collect())
}

fn page(names: &[&str], version: u32, token: &str) -> Answer {
    let items: Vec<String> = names.iter().map(|name| service(name, 7)).collect();
    Answer::Json(
        200,
        format!(
            r#"{{"kind":"ServiceList","metadata":{{"resourceVersion":"{version}","continue":"{token}"}},"items":[{}]}}"#,
            items.join(",")
        ),
    )
}

fn said(code: u16, message: &str) -> Answer {
    Answer::Json(code, format!(r#"{{"kind":"Status","status":"Failure","message":"{message}","code":{code}}}"#))
}

fn error(code: u16) -> Bit {
    Bit::Line(format!(r#"{{"type":"ERROR","object":{{"kind":"Status","message":"in the stream","code":{code}}}}}"#))
}

fn quiet() -> Answer {
    Answer::Stream(vec![Bit::Hang])
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_the_list_and_goes_on_as_the_watch() {
    let more = vec![
        Bit::Line(line("MODIFIED", &service("a", 101))),
        Bit::Line(line("DELETED", &service("b", 102))),
        Bit::Line(line("NEWS", "true")),
        Bit::Line(line("BOOKMARK", r#"{"metadata":{"resourceVersion":"103"}}"#)),
    ];
    let run = Run::start(vec![streamed(&["a", "b"], more), quiet()]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(run.told(), "begin, seen a, seen b, complete, applied a, deleted shop/b");
    let asked = run.asked();
    assert!(
        asked[0].contains("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion="),
        "{asked:?}"
    );
    assert!(asked[0].contains("allowWatchBookmarks=true"), "{asked:?}");
    // It ended as it has to at some time, so it goes on where a bookmark left it.
    assert!(asked[1].ends_with("resourceVersion=103") && !asked[1].contains("sendInitialEvents"), "{asked:?}");
    let state = run.state();
    assert!(state.synced && state.trouble.is_none() && state.errors == 0, "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_refuses_streams_is_asked_for_pages_for_a_while() {
    let watch = Answer::Stream(vec![Bit::Wait(700_000), error(410)]);
    let run = Run::start(vec![
        said(422, "sendInitialEvents is forbidden for watch"),
        page(&["a"], 50, "next"),
        page(&["b"], 50, ""),
        watch,
    ]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(run.told(), "begin, seen a, seen b, complete");
    let asked = run.asked();
    assert!(asked[1].ends_with("/services?&limit=500"), "{asked:?}");
    assert!(asked[2].contains("continue=next"), "{asked:?}");
    assert!(asked[3].ends_with("resourceVersion=50"), "{asked:?}");
    assert_eq!(run.state().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn streams_are_tried_again_after_a_while() {
    let run = Run::with(
        vec![said(422, "no"), page(&[], 50, ""), Answer::Stream(vec![Bit::Wait(700_000), error(410)]), quiet()],
        |run| run.timing.silence = Duration::from_secs(1000),
    );
    sleep(Duration::from_secs(701)).await;
    let asked = run.asked();
    assert!(asked[3].contains("sendInitialEvents=true"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_stream_before_its_end_twice_means_pages() {
    let run = Run::start(vec![
        Answer::Stream(vec![error(500)]),
        Answer::Stream(vec![Bit::Line(line("ADDED", &service("a", 7))), error(500)]),
        page(&["b"], 50, ""),
        quiet(),
    ]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(run.told(), "begin, begin, seen a, begin, seen b, complete");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_never_says_its_list_is_complete_is_asked_for_pages() {
    let mut bits = vec![Bit::Line(line("ADDED", &service("a", 7)))];
    bits.push(Bit::Hang);
    let run = Run::start(vec![Answer::Stream(bits), page(&["a"], 50, ""), quiet()]);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(run.told(), "begin, seen a");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(run.told(), "begin, seen a, begin, seen a, complete");
    // The same with something happening all the time.
    let busy = (0..40).flat_map(|at| [Bit::Wait(2000), Bit::Line(line("MODIFIED", &service("a", at)))]).collect();
    let run = Run::start(vec![Answer::Stream(busy), page(&["a"], 50, ""), quiet()]);
    sleep(Duration::from_secs(65)).await;
    assert!(run.told().ends_with("begin, seen a, complete"), "{}", run.told());
}

#[tokio::test(start_paused = true)]
async fn an_expired_page_starts_the_list_over() {
    let run = Run::start(vec![
        said(422, "no"),
        page(&["a"], 50, "next"),
        said(410, "The provided continue parameter is too old"),
        page(&["b"], 60, ""),
        quiet(),
    ]);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(run.told(), "begin, seen a, begin, seen b, complete");
    assert!(run.asked()[4].ends_with("resourceVersion=60"));
    assert_eq!(run.state().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_come_in_one_piece_and_not_older_than_known() {
    let future = r#"{"message":"Timeout: Too large resource version: 50, current: 20","reason":"Timeout","code":504}"#;
    let run = Run::with(
        vec![
            said(422, "no"),
            page(&[], 50, ""),
            Answer::Stream(vec![error(410)]),
            Answer::Json(504, future.to_owned()),
            page(&[], 20, ""),
            quiet(),
        ],
        |run| {
            run.resource.paged = false;
            run.resource.fields = Some("spec.nodeName=n1".into());
        },
    );
    sleep(Duration::from_secs(1)).await;
    let asked = run.asked();
    let whole = "fieldSelector=spec.nodeName%3Dn1&resourceVersion=";
    for (at, version) in [(1, 0), (3, 50), (4, 0)] {
        assert!(asked[at].ends_with(&format!("{whole}{version}&resourceVersionMatch=NotOlderThan")), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_means_a_new_list_at_once_and_then_slower() {
    let mut answers = vec![streamed(&["a"], vec![error(410)])];
    answers.extend((0..6).map(|_| streamed(&["b"], vec![error(410)])));
    let run = Run::start(answers);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(run.told(), "begin, seen a, complete, begin, seen b, complete");
    sleep(Duration::from_secs(1)).await;
    assert!(run.asked().len() <= 6, "{:?}", run.asked().len());
    // Refused with an answer of its own, it is the same.
    let run = Run::start(vec![streamed(&["a"], vec![]), said(410, "too old"), streamed(&["b"], vec![Bit::Hang])]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(run.told(), "begin, seen a, complete, begin, seen b, complete");
    assert_eq!(run.state().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_begun_anew_and_then_listed_anew() {
    let run = Run::start(vec![streamed(&["a"], vec![Bit::Hang]), quiet(), streamed(&["b"], vec![Bit::Hang])]);
    sleep(Duration::from_secs(91)).await;
    assert_eq!(run.asked().len(), 2);
    assert!(run.asked()[1].ends_with("resourceVersion=100"));
    sleep(Duration::from_secs(90)).await;
    assert_eq!(run.told(), "begin, seen a, complete, begin, seen b, complete");
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_goes_on_where_it_was_and_is_no_trouble() {
    let more = vec![Bit::Line(line("ADDED", &service("b", 105))), Bit::Break];
    let run = Run::start(vec![
        streamed(&["a"], more),
        Answer::Stream(vec![Bit::Line(line("ADDED", &service("c", 106))), Bit::Hang]),
    ]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(run.told(), "begin, seen a, complete, applied b, applied c");
    assert!(run.asked()[1].ends_with("resourceVersion=105"));
    assert_eq!(run.state().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn trouble_ends_when_the_watch_holds_and_takes_nothing_away() {
    let run = Run::start(vec![
        streamed(&["a"], vec![Bit::Wait(2000)]),
        Answer::Refuse,
        said(403, "services is forbidden"),
        said(503, "apiserver not ready"),
        quiet(),
    ]);
    sleep(Duration::from_millis(2101)).await;
    let trouble = run.state().trouble.unwrap();
    assert!(trouble.text.contains("says 403: services is forbidden"), "{trouble:?}");
    sleep(Duration::from_secs(3)).await;
    assert_eq!((run.state().trouble, run.state().errors), (None, 3));
    assert_eq!(run.told(), "begin, seen a, complete");
}

#[tokio::test(start_paused = true)]
async fn a_missing_custom_resource_is_a_complete_state() {
    let missing = || Answer::Json(404, "404 page not found\n".to_owned());
    let mut answers: Vec<Answer> = (0..4).map(|_| missing()).collect();
    answers.push(streamed(&["a"], vec![Bit::Hang]));
    let run = Run::with(answers, |run| {
        run.resource.optional = true;
        run.resource.versions = vec!["v1".into(), "v1beta1".into()];
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(run.told(), "absent");
    assert!(run.state().trouble.unwrap().is_missing());
    let asked = run.asked();
    assert!(asked[0].starts_with("/api/v1/") && asked[1].starts_with("/api/v1beta1/"), "{asked:?}");
    assert_eq!(asked.len(), 2);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(run.told(), "absent, begin, seen a, complete");
    assert_eq!((run.state().trouble, run.state().errors), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_there_is_missing_only_when_that_lasts() {
    let missing = || Answer::Json(404, "404 page not found\n".to_owned());
    // As long as a start of an API server.
    let mut answers = vec![streamed(&["a"], vec![])];
    answers.extend((0..4).map(|_| missing()));
    answers.push(streamed(&["a"], vec![Bit::Hang]));
    let run = Run::with(answers, |run| run.resource.optional = true);
    sleep(Duration::from_secs(8)).await;
    assert_eq!(run.told(), "begin, seen a, complete, begin, seen a, complete");
    // For good.
    let mut answers = vec![streamed(&["a"], vec![])];
    answers.extend((0..40).map(|_| missing()));
    let run = Run::with(answers, |run| run.resource.optional = true);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(run.told(), "begin, seen a, complete");
    sleep(Duration::from_secs(12)).await;
    assert_eq!(run.told(), "begin, seen a, complete, absent");
    // Something that every API server has is never missing.
    let mut answers = vec![streamed(&["a"], vec![])];
    answers.extend((0..40).map(|_| missing()));
    let run = Run::start(answers);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(run.told(), "begin, seen a, complete");
    assert!(!run.state().trouble.unwrap().is_missing());
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_refused_are_read_again() {
    let run = Run::start(vec![said(401, "Unauthorized"), streamed(&["a"], vec![Bit::Hang])]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(run.connection.renewed(), 1);
    assert_eq!(run.told(), "begin, seen a, complete");
    assert_eq!((run.state().trouble, run.state().errors), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_the_api_server_asks_for() {
    let busy = r#"{"message":"storage is (re)initializing","code":429,"details":{"retryAfterSeconds":1}}"#;
    let run = Run::start(vec![Answer::Json(429, busy.to_owned()), streamed(&["a"], vec![Bit::Hang])]);
    sleep(Duration::from_millis(990)).await;
    assert_eq!(run.told(), "");
    sleep(Duration::from_millis(20)).await;
    assert_eq!(run.told(), "begin, seen a, complete");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_refused_is_given_up() {
    let wrong = || said(500, "resourceVersion: Invalid value");
    let run = Run::start(vec![streamed(&["a"], vec![]), wrong(), wrong(), wrong(), streamed(&["b"], vec![Bit::Hang])]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(run.told(), "begin, seen a, complete, begin, seen b, complete");
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_given_up_after_a_while() {
    let run = Run::start(vec![Answer::Hang, Answer::Hang, Answer::Hang, page(&["a"], 50, ""), quiet()]);
    sleep(Duration::from_secs(31)).await;
    // It is named from the first time on.
    assert!(run.state().trouble.unwrap().text.contains("no answer within 30 s"));
    sleep(Duration::from_secs(64)).await;
    assert_eq!(run.told(), "begin, seen a, complete");
    assert_eq!((run.state().trouble, run.state().errors), (None, 3));
}
