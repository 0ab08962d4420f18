//! The configuration that is in force, and what became of those that were read again.

use std::fmt;

use super::{Writer, signed};
use crate::admin::reloads::Reloads;

pub fn reloads(out: &mut Writer<'_>, reloads: &Reloads) -> fmt::Result {
    let counts = reloads.counts().map(|(result, count)| ([("result", result.to_owned())], count));
    let help = "Configurations that were read again, because of SIGHUP or since the file had changed";
    out.counters("config_reloads", help, counts.into())?;
    let help = "1 for the configuration file in force, by its SHA-256; empty without a file";
    out.gauges("config_info", help, vec![([("hash", reloads.hash().to_string())], 1)])?;
    let good = i64::from(reloads.refused().is_none());
    let help = "0 while the configuration file cannot be used, and the one before it is in force";
    out.gauges("config_last_reload_successful", help, vec![([], good)])?;
    let help = "Keys whose values in the configuration file wait for a restart";
    out.gauges("config_restart_keys", help, vec![([], signed(reloads.waiting().len()))])
}
