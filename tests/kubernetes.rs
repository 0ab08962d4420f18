//! Fed by an API server: what changes there is answered, through the binary, and peers come and go.

mod support;

use serde_json::json;
use support::fed::{FAR, Fed, Lab, NXDOMAIN, SHOP, base};
use support::objects::{namespace, service, slice};

const WEB: &str = "web.shop.mesh.acme";

in_every_lab! {
    what_the_api_server_has_is_answered_and_follows_its_changes,
    peers_come_and_go_with_their_secrets,
}

fn what_the_api_server_has_is_answered_and_follows_its_changes(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let server = fed.start();
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    fed.is(FAR, WEB, NXDOMAIN, &[]);
    fed.api.apply(service("shop", "web", "global", "10.0.0.2"));
    fed.until(SHOP, WEB, 0, &["10.0.0.2"]);
    fed.until(FAR, WEB, 0, &["10.0.0.2"]);
    fed.api.delete("v1", "Service", "shop", "web");
    fed.until(SHOP, WEB, NXDOMAIN, &[]);
    server.stop().expect("it stops");
}

fn peers_come_and_go_with_their_secrets(lab: Lab) {
    let fed = Fed::new(lab, &json!({}));
    let there = lab.api_server();
    there.apply_all(base());
    there.apply_all([service("shop", "only", "segment", "10.9.0.1"), slice("shop", "only", "10.5.0.1")]);
    let server = fed.start();
    let only = "only.shop.mesh.acme";
    fed.is(SHOP, only, NXDOMAIN, &[]);
    fed.join("there", &there);
    fed.until(SHOP, only, 0, &["10.5.0.1"]);
    there.apply(slice("shop", "only", "10.5.0.2"));
    fed.until(SHOP, only, 0, &["10.5.0.2"]);
    // R4: of another segment there than here, nothing of it counts.
    there.apply(namespace("istio-system", Some("elsewhere")));
    fed.until(SHOP, only, NXDOMAIN, &[]);
    there.apply(namespace("istio-system", Some("acme")));
    fed.until(SHOP, only, 0, &["10.5.0.2"]);
    fed.part("there");
    fed.until(SHOP, only, NXDOMAIN, &[]);
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    server.stop().expect("it stops");
}
