use axum::routing::get as on_get;
use tokio::task::JoinHandle;

use super::*;

const SOON: Duration = Duration::from_secs(5);

/// A server of `/version` that says this.
async fn serve(place: Place, version: &'static str) -> JoinHandle<()> {
    let endpoint = Endpoint::open(place, false).await.unwrap();
    tokio::spawn(endpoint.serve(Router::new().route("/version", on_get(move || async move { version }))))
}

fn free_port() -> Place {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Place::Port(socket.local_addr().unwrap())
}

/// Until the place says this.
async fn until(place: &Place, version: &str) {
    let says = async {
        while place.get("/version", SOON).await.ok() != Some((200, version.to_owned())) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, says).await.unwrap_or_else(|_| panic!("{place} does not say {version:?}"));
}

#[tokio::test]
async fn a_place_that_another_segdns_holds_is_served_once_that_has_left() {
    let dir = tempfile::tempdir().unwrap();
    for place in [free_port(), Place::Path(dir.path().join("admin.sock"))] {
        let old = serve(place.clone(), "segdns 1\n").await;
        until(&place, "segdns 1\n").await;
        let new = serve(place.clone(), "segdns 2\n").await;
        sleep(AGAIN + AGAIN / 2).await;
        until(&place, "segdns 1\n").await;
        old.abort();
        until(&place, "segdns 2\n").await;
        new.abort();
    }
}

#[tokio::test]
async fn a_place_that_another_program_holds_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for place in [free_port(), Place::Path(dir.path().join("admin.sock"))] {
        let other = serve(place.clone(), "nginx\n").await;
        until(&place, "nginx\n").await;
        let error = Endpoint::open(place.clone(), false).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{place} cannot be used: another program holds it; stop that, or choose another one")
        );
        assert!(Endpoint::open(place.clone(), true).await.is_err(), "whether one is replaced or not");
        other.abort();
    }
}

#[tokio::test]
async fn a_socket_that_nobody_answers_is_replaced_and_is_for_its_user_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let place = Place::Path(path.clone());
    let server = serve(place.clone(), "segdns\n").await;
    until(&place, "segdns\n").await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
    assert_eq!(dir.path().read_dir().unwrap().count(), 1, "nothing else is left there");
    server.abort();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes");
    std::fs::write(&path, "mine").unwrap();
    let error = Endpoint::open(Place::Path(path.clone()), false).await.unwrap_err().to_string();
    assert!(error.ends_with("there is a file of this name, which is no socket; remove it"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let missing = Place::Path(dir.path().join("no/admin.sock"));
    let error = Endpoint::open(missing, false).await.unwrap_err().to_string();
    assert!(error.contains("No such file or directory"), "{error}");
}

#[tokio::test]
async fn one_that_says_nothing_is_waited_for_only_if_it_is_to_be_replaced() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::Port(silent.local_addr().unwrap());
    assert!(Endpoint::open(place.clone(), false).await.is_err());
    assert!(Endpoint::open(place, true).await.is_ok());
}
