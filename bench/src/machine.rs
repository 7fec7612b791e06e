//! The machine: cores, clocks, the distance between two cores, and who else is at work.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::rounds;

/// The cores that this process could use when it was first asked.
pub fn cores() -> &'static [usize] {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(allowed)
}

fn allowed() -> Vec<usize> {
    // SAFETY: all zeros is an empty set, and the call fills it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0);
        set
    };
    // SAFETY: the numbers are within the set.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

/// The processor, how many cores of it, and the kernel's version.
pub fn name() -> String {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version: Vec<&str> = release.trim().split('.').take(2).collect();
    format!("{model}, {} cores, Linux {}", cores().len(), version.join("."))
}

/// Bytes of memory that this process has.
pub fn resident() -> u64 {
    let told = fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages: u64 = told.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    // SAFETY: it only asks.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64
}

/// Bytes of memory that the machine could still give.
pub fn available() -> u64 {
    let told = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib << 10)
}

/// Ties this thread to one core.
pub fn pin(core: usize) {
    // SAFETY: all zeros is an empty set, and the core is one of `cores`.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
    }
}

/// Lets short sleeps of this thread be short: the kernel else rounds them up by 50 µs.
pub fn exact_sleeps() {
    // SAFETY: it changes nothing but this thread's slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
}

pub fn time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills it.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the kernel counts of this thread's switches: voluntary, involuntary.
pub fn switches() -> (u64, u64) {
    // SAFETY: all zeros is a valid value, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage
    };
    (usage.ru_nvcsw as u64, usage.ru_nivcsw as u64)
}

pub fn thread_id() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
}

/// Whether a thread of this process is blocked.
pub fn sleeps(thread: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

/// Threads that run or could, on the whole machine, this one included.
pub fn runnable() -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let running = stat.lines().find_map(|line| line.strip_prefix("procs_running "));
    running.and_then(|count| count.trim().parse().ok()).unwrap_or(1)
}

/// What it costs to pass a cache line from one core to the other, in ns. It can change within
/// minutes where a host moves its guest's cores, so it is taken beside every round.
pub fn line_latency(a: usize, b: usize) -> f64 {
    rounds::median((0..5).map(|_| passes(a, b)).collect())
}

fn passes(a: usize, b: usize) -> f64 {
    const PASSES: u64 = 4_000;
    let line = AtomicU64::new(0);
    let play = |core, parity| {
        pin(core);
        let start = Instant::now();
        for turn in (0..PASSES).filter(|turn| turn % 2 == parity) {
            while line.load(Ordering::Acquire) != turn {
                std::hint::spin_loop();
            }
            line.store(turn + 1, Ordering::Release);
        }
        start.elapsed()
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| play(b, 1));
        let mine = scope.spawn(|| play(a, 0)).join().expect("ping");
        let theirs = other.join().expect("pong");
        mine.min(theirs).as_secs_f64() * 1e9 / PASSES as f64
    })
}

/// Watches what others do on the machine while something is measured.
pub struct Watch {
    start: Instant,
    busy: f64,
    stolen: f64,
    own: Duration,
}

impl Watch {
    pub fn start() -> Self {
        let (busy, stolen) = times();
        Self { start: Instant::now(), busy, stolen, own: time(libc::CLOCK_PROCESS_CPUTIME_ID) }
    }

    /// The share of the machine that went to others since the start: other processes, or the host.
    /// The kernel counts it in ticks, so two of them don't count.
    pub fn foreign(&self) -> f64 {
        let (busy, stolen) = times();
        let own = (time(libc::CLOCK_PROCESS_CPUTIME_ID) - self.own).as_secs_f64();
        let others = (busy - self.busy - own).max(0.0) + (stolen - self.stolen).max(0.0);
        let machine = self.start.elapsed().as_secs_f64() * cores().len() as f64;
        (others - 2.0 / ticks()).max(0.0) / machine
    }
}

fn ticks() -> f64 {
    // SAFETY: it only asks.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// Seconds that all cores together were at work, and that the host took from them.
fn times() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal
    let at = |field: usize| fields.get(field).copied().unwrap_or(0.0) / ticks();
    (at(0) + at(1) + at(2) + at(5) + at(6), at(7))
}
