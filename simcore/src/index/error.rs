//! Why a call on the index fails.

use std::{error, fmt, io};

/// An error of the index. No message carries a vector or an id.
#[derive(Debug)]
pub enum Error {
    /// An argument or a file is not what it must be; nothing was changed.
    Invalid(String),
    /// This call hit an internal fault. It is reported to one caller only; the index is quarantined.
    Poisoned(&'static str),
    /// An earlier call hit an internal fault: the index answers nothing any more and must be rebuilt.
    Quarantined,
    /// An invariant of the index does not hold; quarantines it like a panic.
    Broken,
    /// The operating system refused to read or write a file.
    Io(io::Error),
}

impl Error {
    /// An [`Error::Invalid`] with this message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(message) => f.write_str(message),
            Self::Poisoned(operation) => {
                write!(f, "internal fault in {operation}: the index is quarantined and must be rebuilt")
            }
            Self::Quarantined => f.write_str("the index is quarantined since an internal fault and must be rebuilt"),
            Self::Broken => f.write_str("an invariant of the index does not hold"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
