//! The body of `add-checkpoint` (C2SP tlog-witness).

use audit_verify::proof_file::{decimal, hash_from_base64};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::hash::Hash;

/// Hashes of one proof at most; a tree of 2^64 leaves needs no more.
pub const MAX_PROOF_LINES: usize = 63;

/// Bytes of one body at most: the longest proof takes 3 KB, the rest is for signatures.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// A checkpoint with the proof that it extends an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness has, as the sender believes; 0 for none.
    pub old: u64,
    /// Consistency proof from `old` to the checkpoint (RFC 6962 §2.1.2).
    pub proof: Vec<Hash>,
    /// The checkpoint: a signed note.
    pub note: String,
}

/// Not a body of `add-checkpoint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRequest {
    /// Not UTF-8.
    #[error("the body is not text")]
    NotText,
    /// The first line does not say the old size.
    #[error("the first line must be the word old and a size without leading zeros")]
    OldSize,
    /// A proof line is not a hash in base64.
    #[error("a proof line is not the base64 of 32 bytes")]
    ProofLine,
    /// More than [`MAX_PROOF_LINES`].
    #[error("the proof has more than {MAX_PROOF_LINES} lines")]
    ProofLength,
    /// Nothing after the proof.
    #[error("no empty line stands between the proof and the checkpoint")]
    NoCheckpoint,
}

impl AddCheckpoint {
    /// Reads a body. The checkpoint itself is not looked at.
    pub fn parse(body: &[u8]) -> Result<Self, MalformedRequest> {
        let body = std::str::from_utf8(body).map_err(|_| MalformedRequest::NotText)?;
        let (head, note) = body.split_once("\n\n").ok_or(MalformedRequest::NoCheckpoint)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(old_size).ok_or(MalformedRequest::OldSize)?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MAX_PROOF_LINES {
                return Err(MalformedRequest::ProofLength);
            }
            proof.push(hash_from_base64(line).ok_or(MalformedRequest::ProofLine)?);
        }
        Ok(Self { old, proof, note: note.to_owned() })
    }

    /// The body.
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            STANDARD.encode_string(hash.0, &mut text);
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }
}

fn old_size(line: &str) -> Option<u64> {
    decimal(line.strip_prefix("old ")?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_was_written() {
        for hashes in [0, 1, MAX_PROOF_LINES] {
            let proof = (0..hashes).map(|n| Hash::of_line(&n.to_string())).collect();
            let request = AddCheckpoint { old: 7, proof, note: "o\n9\nroot\n\n— o sig\n".into() };
            assert_eq!(AddCheckpoint::parse(request.to_text().as_bytes()).unwrap(), request);
        }
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let body = "old 20852014\n\
            PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
            jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\n\
            example.com/behind-the-sofa\n20852163\n\
            CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— x y\n";
        let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
        assert_eq!((request.old, request.proof.len()), (20_852_014, 2));
        assert!(request.note.starts_with("example.com/behind-the-sofa\n20852163\n"));
    }

    #[test]
    fn what_is_no_body_says_why() {
        use MalformedRequest::{NoCheckpoint, NotText, OldSize, ProofLength, ProofLine};
        let hash = format!("{}\n", STANDARD.encode([1; 32]));
        let too_long = format!("old 1\n{}\nnote", hash.repeat(MAX_PROOF_LINES + 1));
        for (body, error) in [
            ("", NoCheckpoint),
            ("old 1\n", NoCheckpoint),
            ("\n\nnote", OldSize),
            ("old\n\nnote", OldSize),
            ("old \n\nnote", OldSize),
            ("old 01\n\nnote", OldSize),
            ("old -1\n\nnote", OldSize),
            ("old +1\n\nnote", OldSize),
            ("old 1\r\n\nnote", OldSize),
            ("old  1\n\nnote", OldSize),
            ("old 18446744073709551616\n\nnote", OldSize),
            ("old 1\nrubbish\n\nnote", ProofLine),
            ("old 1\nAAAA\n\nnote", ProofLine),
            (too_long.as_str(), ProofLength),
        ] {
            assert_eq!(AddCheckpoint::parse(body.as_bytes()), Err(error), "{body}");
        }
        assert_eq!(AddCheckpoint::parse(b"old 1\n\n\xff"), Err(NotText));
    }
}
