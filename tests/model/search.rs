//! `autopath` as docs/forwarding.md has it: the rest of a pod's search list, walked in its place.

use super::answer::{Answer, own};
use super::caller::{Caller, SEARCHES};
use super::mesh::{CLUSTER, is_in};
use super::rules::Model;
use super::wire::CNAME;

/// The longest name, as text.
const LONGEST: usize = 253;

impl Model<'_> {
    /// What the caller's search list makes of a name after this, which is its first form; nothing if it is none, or none that
    /// is completed: a mesh name has forms of its own (R21).
    #[must_use]
    pub fn completions(&self, caller: &Caller, name: &str) -> Vec<String> {
        let allowed = self.mesh.policy.autopath && self.local().synced;
        let Some((namespace, own)) = caller.home.as_ref().filter(|_| allowed) else { return Vec::new() };
        let Some(base) = name.strip_suffix(&format!(".{namespace}.svc.{CLUSTER}")) else { return Vec::new() };
        if self.zone_of(base).is_some() || self.search_form(caller, name).is_some() {
            return Vec::new();
        }
        let node = SEARCHES.into_iter().filter(|domain| !is_in(domain, CLUSTER));
        let domains = ["svc.cluster.local", CLUSTER].into_iter().chain(node).map(str::to_owned);
        let own = own.iter().map(|domain| domain.to_lowercase().trim_end_matches('.').to_owned());
        let all = domains.chain(own.filter(|domain| !domain.split('.').any(str::is_empty)));
        all.map(|domain| format!("{base}.{domain}"))
            .chain([base.to_owned()])
            .filter(|form| form.len() <= LONGEST)
            .collect()
    }

    /// The answer to a first form: if nothing is there, that of the first other form that exists, behind a CNAME. If one
    /// cannot be told, the caller's own search goes on.
    #[must_use]
    pub fn completed(&self, caller: &Caller, name: &str, rtype: u16, plain: Answer) -> Answer {
        if plain.rcode != 3 || !plain.answers.is_empty() {
            return plain;
        }
        for form in self.completions(caller, name) {
            let answer = self.at(caller, &form, rtype, 1);
            match answer.rcode {
                // Whether it is our own data is told of what was found.
                0 => return Answer { aa: answer.aa, ..answer.behind(own(name, CNAME, form)) },
                3 => {}
                _ => return plain,
            }
        }
        plain
    }
}
