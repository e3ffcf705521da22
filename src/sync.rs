//! Locking without poisoning.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also after a panic in another thread that held it.
///
/// Safe to use where every update leaves the value consistent, as all updates in camfire do. Release builds
/// abort on a panic, so only tests see a poisoned mutex.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
