//! The inference engine, its kernels and the labels.

use super::finding::Finding;
use crate::{
    config::Network,
    workers::model::{self, Model},
};

/// Reports on the engine for `network`.
pub fn findings(network: &Network) -> Vec<Finding> {
    vec![Finding::of("engine", engine(network)), Finding::of("everyday labels", everyday(network))]
}

fn engine(network: &Network) -> Result<String, String> {
    let (engine, identity) = model::open_engine(network).map_err(|e| e.to_string())?;
    let sha256 = &identity.sha256[..12];
    let fallback = engine.fallback_reason().map(|reason| format!("; not {reason}")).unwrap_or_default();
    Ok(format!("{} ({}), {} {sha256}{fallback}", engine.name(), engine.kernels(), identity.name))
}

/// The labels of the everyday head.
fn everyday(network: &Network) -> Result<String, String> {
    let model = Model::open(network, &Default::default()).map_err(|e| e.to_string())?;
    Ok(match &model.everyday {
        Some(_) => model.taxonomy.default_labels().join(", "),
        None => "none: all labels are groups of the network's classes".into(),
    })
}
