//! Keys: callback tokens that only this installation can have made, and return addresses encrypted at rest.
//!
//! A Baton token is `baton1.` and the base64url of nonce and AES-256-GCM ciphertext of its claims. It is bound to
//! namespace, execution, position and attempt, and to nothing else: minting the same claims again gives the same token
//! (the nonce is derived from the claims), so a repeat after a crash hands out the same return address.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use baton_types::Uid;
use prost::Message;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// How every Baton token begins.
pub const TOKEN_PREFIX: &str = "baton1.";

const KEY_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file cannot be read or written.
    #[error("use the key file {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// There is no key file where there is data that was written with one.
    #[error("the key file {} is missing, and the data beside it was written with it", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// The key file holds something else.
    #[error("the key file {} has {found} bytes, a key has {KEY_BYTES}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Its size.
        found: usize,
    },
    /// The system gives no random numbers.
    #[error("the system's random number generator failed")]
    Random,
}

/// What a token says, readable only with the key.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Claims {
    /// Namespace of whoever waits.
    #[prost(string, tag = "1")]
    pub(crate) namespace: String,
    /// Uid of the waiting execution, or id of the mailbox.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) uid: Vec<u8>,
    /// Number of the waiting execution; 0 for a mailbox.
    #[prost(int64, tag = "3")]
    pub(crate) number: i64,
    #[prost(string, tag = "4")]
    pub(crate) position: String,
    #[prost(uint32, tag = "5")]
    pub(crate) attempt: u32,
    /// When it stops being accepted, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub(crate) expires_ms: i64,
}

impl Claims {
    pub(crate) fn is_mailbox(&self) -> bool {
        self.number == 0
    }

    pub(crate) fn uid(&self) -> Option<Uid> {
        self.uid.as_slice().try_into().ok().map(Uid::from_bytes)
    }

    pub(crate) fn operation(&self) -> baton_execution::OperationId {
        baton_execution::OperationId::new(self.position.clone(), self.attempt)
    }
}

/// Mints and opens tokens, seals and opens what is encrypted at rest. Cheap to share by `Arc`.
pub struct Sealer {
    master: hmac::Key,
    tokens: LessSafeKey,
    nonces: hmac::Key,
    at_rest: LessSafeKey,
    random: SystemRandom,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(***)")
    }
}

impl Sealer {
    /// A sealer over a key of 32 bytes.
    ///
    /// # Panics
    /// Never: the derived keys have the length that the cipher takes.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let master = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derive = |purpose: &str| hmac::sign(&master, purpose.as_bytes());
        let aead = |purpose: &str| {
            let tag = derive(purpose);
            LessSafeKey::new(
                UnboundKey::new(&AES_256_GCM, tag.as_ref()).expect("HMAC-SHA256 gives the 32 bytes that AES-256 takes"),
            )
        };
        Self {
            tokens: aead("baton callback token"),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, derive("baton callback nonce").as_ref()),
            at_rest: aead("baton at rest"),
            random: SystemRandom::new(),
            master,
        }
    }

    /// Another key, for `purpose`: whoever has the same key derives the same, and nobody finds this key from it.
    ///
    /// # Panics
    /// Never: the code has the length that is given.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        let code = hmac::sign(&self.master, purpose.as_bytes());
        code.as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
    }

    /// The sealer over the key in `path`, which is made (readable by its owner only) if it is not there.
    ///
    /// For a new store alone: another key makes all tokens that are out, and all return addresses at rest, unreadable.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::open(path) {
            Err(KeyError::Missing { .. }) => {}
            opened => return opened,
        }
        let failed = |source| KeyError::Io { path: path.to_owned(), source };
        let mut key = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut key).map_err(|_| KeyError::Random)?;
        // Whole or not at all: a half-written key would lock the tokens of a first run out for ever.
        let draft = path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
        file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&draft, path).map_err(failed)?;
        Ok(Self::new(&key))
    }

    /// The sealer over the key in `path`, which must be there.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let found = fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
            _ => KeyError::Io { path: path.to_owned(), source },
        })?;
        let key: &[u8; KEY_BYTES] = found
            .as_slice()
            .try_into()
            .map_err(|_| KeyError::Malformed { path: path.to_owned(), found: found.len() })?;
        Ok(Self::new(key))
    }

    /// Sixteen random bytes.
    pub(crate) fn random_id(&self) -> Result<[u8; 16], KeyError> {
        let mut id = [0; 16];
        self.random.fill(&mut id).map_err(|_| KeyError::Random)?;
        Ok(id)
    }

    /// The token of some claims; the same claims give the same token.
    pub(crate) fn mint(&self, claims: &Claims) -> String {
        let mut sealed = claims.encode_to_vec();
        let tag = hmac::sign(&self.nonces, &sealed);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&tag.as_ref()[..NONCE_LEN]);
        let aad = Aad::from(TOKEN_PREFIX.as_bytes());
        self.tokens
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("claims are far below the limit of AES-GCM");
        let mut whole = nonce.to_vec();
        whole.append(&mut sealed);
        format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(whole))
    }

    /// What a token says, or `None` if this installation did not make it or it was changed.
    pub(crate) fn open_token(&self, token: &[u8]) -> Option<Claims> {
        let text = token.strip_prefix(TOKEN_PREFIX.as_bytes())?;
        let mut whole = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = whole.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let claims = self.tokens.open_in_place(nonce, Aad::from(TOKEN_PREFIX.as_bytes()), sealed).ok()?;
        Claims::decode(&*claims).ok()
    }

    /// Encrypts something for the store; `place` must be the same when it is opened.
    ///
    /// # Panics
    /// Never: what is stored is far below the limit of AES-GCM.
    pub fn seal(&self, plain: &[u8], place: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        if self.random.fill(&mut nonce).is_err() {
            // The system's generator does not fail once it is seeded; a nonce from the content is still unique to it.
            nonce.copy_from_slice(&hmac::sign(&self.nonces, plain).as_ref()[..NONCE_LEN]);
        }
        let mut sealed = plain.to_vec();
        self.at_rest
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .expect("what is stored is far below the limit of AES-GCM");
        let mut whole = nonce.to_vec();
        whole.append(&mut sealed);
        whole
    }

    /// Opens what [`Self::seal`] closed; `None` if the key or the place is another, or if it was changed.
    pub fn unseal(&self, sealed: &[u8], place: &[u8]) -> Option<Vec<u8>> {
        let mut whole = sealed.to_vec();
        let (nonce, sealed) = whole.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        self.at_rest.open_in_place(nonce, Aad::from(place), sealed).ok().map(|plain| plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            namespace: "prod".into(),
            uid: vec![7; 16],
            number: 42,
            position: "/do/0/ask".into(),
            attempt: 1,
            expires_ms: 1,
        }
    }

    #[test]
    fn a_token_opens_to_its_claims_and_any_change_closes_it() {
        let sealer = Sealer::new(&[1; 32]);
        let token = sealer.mint(&claims());
        assert_eq!(token, sealer.mint(&claims()), "a repeat mints the same token");
        assert_eq!(sealer.open_token(token.as_bytes()), Some(claims()));
        assert_eq!(Sealer::new(&[2; 32]).open_token(token.as_bytes()), None, "another installation's key");
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert_ne!(sealer.open_token(&changed), Some(claims()), "changed at {index}");
        }
        for foreign in ["", "baton1.", "baton1.AAAA", "baton2.x", "\u{0}\u{1}"] {
            assert_eq!(sealer.open_token(foreign.as_bytes()), None);
        }
    }

    #[test]
    fn a_derived_key_is_that_of_its_key_and_its_purpose() {
        let sealer = Sealer::new(&[1; 32]);
        assert_eq!(sealer.derive("worker"), Sealer::new(&[1; 32]).derive("worker"));
        assert_ne!(sealer.derive("worker"), sealer.derive("other"));
        assert_ne!(sealer.derive("worker"), Sealer::new(&[2; 32]).derive("worker"));
    }

    #[test]
    fn what_is_sealed_opens_only_in_its_place() {
        let sealer = Sealer::new(&[1; 32]);
        let sealed = sealer.seal(b"token", b"uid-1");
        assert_eq!(sealer.unseal(&sealed, b"uid-1").as_deref(), Some(b"token".as_slice()));
        assert_eq!(sealer.unseal(&sealed, b"uid-2"), None);
        assert_ne!(sealed, sealer.seal(b"token", b"uid-1"), "two sealings differ");
    }
}
