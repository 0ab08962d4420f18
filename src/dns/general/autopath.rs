//! `autopath`: the rest of a pod's search list, walked here.

use super::{Done, Scene};
use crate::dns::serve::Server;
use crate::table::decide::{Decision, Forward};

impl Server {
    pub(super) async fn complete(&self, scene: Scene<'_>, decision: &Decision<'_>, how: Option<Forward>) -> Done {
        let plain = decision.plain();
        match how {
            Some(how) => self.forward(scene, &plain, how).await,
            None => scene.job.decided(scene.table, &plain),
        }
    }
}
