//! A thread that lives in one place and does things there for others: what it opens belongs to its network namespace, what
//! it starts is its child and is killed when it ends.

use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

pub struct Resident {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Resident {
    /// A resident of the namespaces of this process.
    pub fn here() -> io::Result<Resident> {
        Resident::settle("lab-here", || Ok(())).map(|(resident, ())| resident)
    }

    /// Starts a thread, lets it `arrive` (enter or make its namespace), and returns it with what it brought.
    pub fn settle<T: Send + 'static>(name: &str, arrive: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<(Resident, T)> {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        let (arrived, arrival) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let outcome = arrive();
            let stays = outcome.is_ok();
            if arrived.send(outcome).is_err() || !stays {
                return;
            }
            for job in queue {
                job();
            }
        })?;
        let brought = arrival.recv().map_err(|_| io::Error::other("the resident did not arrive"))??;
        Ok((Resident { jobs: Some(jobs), thread: Some(thread) }, brought))
    }

    /// Runs `job` on the resident's thread and returns its result. Jobs are short: they run one after the other.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let jobs = self.jobs.as_ref().expect("the queue is taken on drop only");
        jobs.send(Box::new(move || drop(done.send(job())))).expect("the resident outlives its handle");
        result.recv().expect("a job does not panic")
    }

    /// A TCP socket of this place, not yet connected. It works from any thread.
    pub fn tcp_socket(&self, to: SocketAddr) -> io::Result<socket2::Socket> {
        self.run(move || socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None))
    }

    /// Starts a process here. It dies with the resident.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        die_with_parent(&mut command);
        self.run(move || command.spawn())
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Linux ties the signal to the parent's thread: that is why residents start processes, and not the test's short-lived threads.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let hook = move || {
        // SAFETY: both calls are async-signal-safe and take no pointers.
        let orphan = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 || libc::getppid() as u32 != parent };
        if orphan { Err(io::Error::other("the parent is gone")) } else { Ok(()) }
    };
    // SAFETY: the hook makes two system calls and allocates only on the way to failure.
    unsafe { command.pre_exec(hook) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}
