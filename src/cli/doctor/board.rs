//! Which board this is, as far as advice depends on it.

use crate::cli::machine_files::{printable, read};
use std::path::Path;

/// A board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// Its name, if it tells one.
    pub model: Option<String>,
    /// The family that it belongs to.
    pub family: Family,
}

/// Families of boards that differ in what they decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A Raspberry Pi with the BCM2712: no decoder for H.264, one for H.265.
    RaspberryPi5,
    /// An earlier Raspberry Pi: a decoder for H.264 up to 1920 x 1080.
    RaspberryPi,
    /// An NVIDIA Jetson.
    Jetson,
    /// Anything else.
    Other,
}

impl Board {
    /// Reads the device tree of a board, or the name of a PC.
    pub fn read(root: &Path) -> Board {
        let tree = |name: &str| read(root, &format!("proc/device-tree/{name}"));
        let compatible = tree("compatible").unwrap_or_default();
        let is = |word: &str| compatible.split('\0').any(|name| name.contains(word));
        let family = if is("brcm,bcm2712") {
            Family::RaspberryPi5
        } else if is("raspberrypi,") {
            Family::RaspberryPi
        } else if is("nvidia,tegra") {
            Family::Jetson
        } else {
            Family::Other
        };
        let pc = || {
            let name = |file: &str| read(root, &format!("sys/class/dmi/id/{file}"));
            let parts: Vec<String> =
                [name("sys_vendor"), name("product_name")].into_iter().flatten().collect();
            Some(parts.join(" ")).filter(|model| !model.is_empty())
        };
        let model = tree("model").map(|model| model.trim_matches('\0').to_string()).or_else(pc);
        Board { model: model.map(|model| printable(&model)), family }
    }

    /// Whether it is a Raspberry Pi.
    pub fn is_raspberry_pi(&self) -> bool {
        matches!(self.family, Family::RaspberryPi5 | Family::RaspberryPi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::machine_files::tests::machine;

    fn board(files: &[(&str, &str)]) -> Board {
        Board::read(machine(files).path())
    }

    #[test]
    fn boards_are_told_apart_by_their_device_tree() {
        for (model, compatible, family) in [
            (
                "Raspberry Pi 5 Model B Rev 1.0\0",
                "raspberrypi,5-model-b\0brcm,bcm2712\0",
                Family::RaspberryPi5,
            ),
            (
                "Raspberry Pi 4 Model B Rev 1.4\0",
                "raspberrypi,4-model-b\0brcm,bcm2711\0",
                Family::RaspberryPi,
            ),
            ("NVIDIA Jetson Orin Nano\0", "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0", Family::Jetson),
            ("Radxa ROCK 5B\0", "radxa,rock-5b\0rockchip,rk3588\0", Family::Other),
        ] {
            let files = [("proc/device-tree/model", model), ("proc/device-tree/compatible", compatible)];
            let found = board(&files);
            assert_eq!((found.model.as_deref(), found.family), (Some(model.trim_matches('\0')), family));
        }
        let pc =
            board(&[("sys/class/dmi/id/sys_vendor", "LENOVO\n"), ("sys/class/dmi/id/product_name", "20X\n")]);
        assert_eq!((pc.model.as_deref(), pc.family), (Some("LENOVO 20X"), Family::Other));
        assert_eq!(board(&[]), Board { model: None, family: Family::Other });
    }
}
