//! Which of a camera's packets are passed on to GStreamer. Pure.
//!
//! GStreamer sets up a buffer and a thread for each source (SSRC) that it sees, and keeps records of those
//! that reports mention. So only the packets of the first source are passed on, of the track's payload type,
//! and of reports only the parts about that source.

/// The longest report that is passed on, in bytes.
const MAX_REPORT: usize = 1500;
const SENDER_REPORT: u8 = 200;
/// Length of a sender report without blocks about other sources, in bytes.
const SENDER_REPORT_LENGTH: usize = 28;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;

/// Decides about the packets of one track.
#[derive(Debug)]
pub struct PacketFilter {
    payload_type: u8,
    /// The source of the first packet.
    source: Option<[u8; 4]>,
}

impl PacketFilter {
    /// Creates the filter of a track with this payload type.
    pub fn new(payload_type: u8) -> PacketFilter {
        PacketFilter { payload_type, source: None }
    }

    /// The sequence number of an RTP packet that is to be passed on. None if it is not.
    pub fn media(&mut self, packet: &[u8]) -> Option<u16> {
        let (head, source) = (packet.get(..4)?, packet.get(8..12)?);
        if head[0] >> 6 != 2 || head[1] & 0x7f != self.payload_type {
            return None;
        }
        let expected = *self.source.get_or_insert(source.try_into().ok()?);
        (expected == source).then(|| u16::from_be_bytes([head[2], head[3]]))
    }

    /// The parts of a compound RTCP packet about the track's source, appended to `out`.
    pub fn report(&self, packet: &[u8], out: &mut Vec<u8>) {
        let Some(source) = self.source.filter(|_| packet.len() <= MAX_REPORT) else { return };
        let mut rest = packet;
        while let Some(head) = rest.get(..4) {
            let length = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
            let Some(part) = rest.get(..length).filter(|_| head[0] >> 6 == 2) else { return };
            rest = &rest[length..];
            if part.get(4..8) != Some(&source) {
                continue;
            }
            match (head[1], part.get(4..SENDER_REPORT_LENGTH)) {
                // Without the blocks about other sources, which would create records of these.
                (SENDER_REPORT, Some(sender)) => {
                    out.extend_from_slice(&[0x80, SENDER_REPORT, 0, 6]);
                    out.extend_from_slice(sender);
                }
                (SOURCE_DESCRIPTION | BYE, _) if head[0] & 0x1f == 1 => out.extend_from_slice(part),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(payload_type: u8, sequence: u16, source: u32) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(source.to_be_bytes());
        packet.push(1);
        packet
    }

    fn rtcp(kind: u8, count: u8, source: u32, words: u16) -> Vec<u8> {
        let mut packet = vec![0x80 | count, kind];
        packet.extend(words.to_be_bytes());
        packet.extend(source.to_be_bytes());
        packet.resize(4 + 4 * usize::from(words), 0);
        packet
    }

    #[test]
    fn only_the_first_source_and_the_payload_type_of_the_track_pass() {
        let mut filter = PacketFilter::new(96);
        assert_eq!(filter.media(&rtp(97, 1, 5)), None);
        assert_eq!(filter.media(&rtp(96, 1, 7)), Some(1));
        assert_eq!(filter.media(&rtp(96 | 0x80, 2, 7)), Some(2), "with a marker");
        assert_eq!(filter.media(&rtp(96, 3, 8)), None, "another source");
        assert_eq!(filter.media(&rtp(96, 3, 7)[..11]), None);
        assert_eq!(filter.media(&[]), None);
        let mut other_version = rtp(96, 4, 7);
        other_version[0] = 0;
        assert_eq!(filter.media(&other_version), None);
    }

    #[test]
    fn of_reports_only_the_parts_about_the_source_pass() {
        let mut filter = PacketFilter::new(96);
        let passed = |filter: &PacketFilter, packet: &[u8]| {
            let mut out = Vec::new();
            filter.report(packet, &mut out);
            out
        };
        let (report, description) = (rtcp(200, 0, 7, 6), rtcp(202, 1, 7, 3));
        assert!(passed(&filter, &report).is_empty(), "the source is not known yet");
        filter.media(&rtp(96, 1, 7));
        let compound = [&report[..], &description, &rtcp(203, 1, 7, 1)].concat();
        assert_eq!(passed(&filter, &compound), compound);
        assert_eq!(passed(&filter, &rtcp(200, 1, 7, 12)), report, "without its block");
        // An extension of the protocol, another source, several sources, a cut one.
        for part in [rtcp(204, 1, 7, 3), rtcp(200, 0, 8, 6), rtcp(202, 2, 7, 5)] {
            assert_eq!(passed(&filter, &[&report[..], &part].concat()), report);
        }
        assert_eq!(passed(&filter, &[&report[..], &description[..7]].concat()), report);
        assert!(passed(&filter, &vec![0x80; MAX_REPORT + 1]).is_empty());
    }
}
