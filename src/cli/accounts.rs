//! Users and groups of the machine, and who may open a file: what `/etc/passwd`, `/etc/group`, the unit of
//! the service and a file's permissions tell.

use super::machine_files::{names, read};
use std::{collections::BTreeSet, fs::Metadata, os::unix::fs::MetadataExt, path::Path};

/// The user that the installed service runs as.
pub const SERVICE_USER: &str = "camfire";
/// Where units and their drop-ins are, as far as they can name groups of the service.
const UNIT_DIRECTORIES: [&str; 3] = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// A user and the groups that its processes are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Id of its own group.
    pub gid: u32,
    /// All groups, its own included.
    pub gids: BTreeSet<u32>,
}

impl Account {
    /// The service's user, with the groups that its unit adds. None if the service is not installed.
    pub fn of_service(root: &Path) -> Option<Account> {
        let passwd = read(root, "etc/passwd")?;
        let mut fields =
            passwd.lines().find_map(|line| line.strip_prefix(SERVICE_USER)?.strip_prefix(':'))?.split(':');
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        let groups = groups(root);
        let added = supplementary_groups(root);
        let is_member = |group: &Group| {
            added.contains(&group.name) || group.members.iter().any(|member| member == SERVICE_USER)
        };
        let gids =
            groups.iter().filter(|group| is_member(group)).map(|group| group.gid).chain([gid]).collect();
        Some(Account { uid, gid, gids })
    }

    /// Whether it may read and write a file, as far as the permissions tell.
    pub fn may_use(&self, file: &Metadata) -> bool {
        let bits = if self.uid == 0 {
            return true;
        } else if file.uid() == self.uid {
            file.mode() >> 6
        } else if self.gids.contains(&file.gid()) {
            file.mode() >> 3
        } else {
            file.mode()
        };
        bits & 0o6 == 0o6
    }
}

/// The name of a group, or its number.
pub fn group_name(root: &Path, gid: u32) -> String {
    let group = groups(root).into_iter().find(|group| group.gid == gid);
    group.map_or_else(|| gid.to_string(), |group| group.name)
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

fn groups(root: &Path) -> Vec<Group> {
    let group = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_string();
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default().split(',').map(str::to_string).collect();
        Some(Group { name, gid, members })
    };
    read(root, "etc/group").unwrap_or_default().lines().filter_map(group).collect()
}

/// The groups that the service's unit and its drop-ins add.
fn supplementary_groups(root: &Path) -> BTreeSet<String> {
    // The unit of the administrator replaces the packaged one.
    let unit =
        UNIT_DIRECTORIES.iter().find_map(|directory| read(root, &format!("{directory}/camfire.service")));
    let drop_ins = UNIT_DIRECTORIES.iter().flat_map(|directory| {
        let directory = format!("{directory}/camfire.service.d");
        let files = names(root, &directory).into_iter().filter(|name| name.ends_with(".conf"));
        files.filter_map(|file| read(root, &format!("{directory}/{file}"))).collect::<Vec<_>>()
    });
    let texts: Vec<String> = unit.into_iter().chain(drop_ins).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    let lists = lines.filter_map(|line| line.trim().strip_prefix("SupplementaryGroups="));
    lists.flat_map(|list| list.split_whitespace()).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::machine_files::tests::machine as root;
    use std::os::unix::fs::PermissionsExt;

    const PASSWD: (&str, &str) =
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\ncamfire:x:990:989::/var/lib/camfire:/usr/sbin/nologin\n");
    const GROUP: (&str, &str) =
        ("etc/group", "video:x:44:pi\nrender:x:104:camfire,pi\ncamfire:x:989:\ni2c:x:7:\n");

    #[test]
    fn the_services_groups_are_its_own_its_memberships_and_those_of_the_unit() {
        assert_eq!(Account::of_service(root(&[GROUP]).path()), None);
        let groups = |files: &[(&str, &str)]| {
            let root = root(&[&[PASSWD, GROUP], files].concat());
            Account::of_service(root.path()).unwrap().gids.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(groups(&[]), [104, 989]);
        let unit =
            ("usr/lib/systemd/system/camfire.service", "[Service]\nSupplementaryGroups=video render\n");
        assert_eq!(groups(&[unit]), [44, 104, 989]);
        let drop_in =
            ("etc/systemd/system/camfire.service.d/10-i2c.conf", "[Service]\nSupplementaryGroups=i2c\n");
        assert_eq!(groups(&[unit, drop_in]), [7, 44, 104, 989]);
        assert_eq!(group_name(root(&[GROUP]).path(), 44), "video");
        assert_eq!(group_name(root(&[GROUP]).path(), 45), "45");
    }

    #[test]
    fn permissions_decide_who_may_use_a_file() {
        let root = root(&[("node", "")]);
        let node = root.path().join("node");
        let own = std::fs::metadata(&node).unwrap();
        let account = |uid: u32, gid: u32| Account { uid, gid, gids: BTreeSet::from([gid]) };
        for (mode, owner, group, other) in [
            (0o660, true, true, false),
            (0o600, true, false, false),
            (0o666, true, true, true),
            (0o440, false, false, false),
        ] {
            std::fs::set_permissions(&node, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = std::fs::metadata(&node).unwrap();
            // Root may use everything.
            let is_root = own.uid() == 0;
            assert_eq!(account(own.uid(), 1).may_use(&file), owner || is_root, "{mode:o}");
            assert_eq!(account(12345, own.gid()).may_use(&file), group, "{mode:o}");
            assert_eq!(account(12345, 12345).may_use(&file), other, "{mode:o}");
        }
    }
}
