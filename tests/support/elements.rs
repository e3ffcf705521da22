//! GStreamer without some of its elements, as on a machine where packages are missing.

use gstreamer::prelude::*;
use std::collections::BTreeSet;

/// A folder of plugins from which some are left out. Programs that get [`Plugins::environment`] find no
/// others.
pub struct Plugins {
    folder: tempfile::TempDir,
}

impl Plugins {
    /// All installed plugins but those that contain one of `elements`, which must exist here.
    pub fn without(elements: &[&str]) -> Plugins {
        gstreamer::init().unwrap();
        let plugin_of = |element: &&str| {
            let factory = gstreamer::ElementFactory::find(element);
            factory
                .unwrap_or_else(|| panic!("{element} is installed by make test"))
                .plugin()
                .unwrap()
                .filename()
        };
        let hidden: BTreeSet<_> = elements.iter().map(plugin_of).collect();
        let folder = tempfile::tempdir().unwrap();
        for plugin in gstreamer::Registry::get().plugins() {
            let file = plugin.filename().filter(|_| !hidden.contains(&plugin.filename()));
            // Built-in ones have no file.
            let Some(file) = file.filter(|file| file.is_absolute()) else { continue };
            let link = folder.path().join(file.file_name().unwrap());
            let _ = std::os::unix::fs::symlink(file, link);
        }
        Plugins { folder }
    }

    /// The environment variables with which a program finds these plugins alone.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("GST_PLUGIN_SYSTEM_PATH_1_0", self.folder.path().display().to_string()),
            ("GST_PLUGIN_PATH_1_0", String::new()),
            ("GST_REGISTRY_1_0", self.folder.path().join("registry.bin").display().to_string()),
        ]
    }
}
