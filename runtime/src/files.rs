//! Files that are there whole or not at all, also after a crash.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Replaces a file, or makes it: whoever reads it sees the old bytes or the new ones, never a part.
/// Durable when it returns. One caller in a process at a time.
///
/// # Errors
/// What the file system says; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path);
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// Where a process writes what is to take a file's place.
pub fn beside(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}.new", std::process::id()));
    new.into()
}

/// Makes a file with this text.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when there is a file. Otherwise what the file system says.
pub fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes the entry of a file in its folder durable.
///
/// # Errors
/// What the file system says.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
