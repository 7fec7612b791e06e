//! Any calls: every answer is that of the naive model of the tests, and a snapshot at any moment is the
//! same table.

#![no_main]

#[path = "../../tests/session/calls.rs"]
mod calls;
#[path = "../../tests/session/model.rs"]
#[allow(dead_code)]
mod model;

use calls::Call;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use model::{Model, Numbers, Terms};
use onceflight::SessionTable;

#[derive(Arbitrary, Debug)]
struct Limits {
    max_sessions: u8,
    window: u8,
    timeout: Option<u8>,
    max_response_len: u8,
    max_session_bytes: u8,
    more_bytes: u8,
}

impl Limits {
    fn terms(&self) -> Terms {
        Terms {
            max_sessions: u32::from(self.max_sessions) % 8 + 1,
            window: u32::from(self.window) % 64 + 1,
            timeout: self.timeout.map_or(u64::MAX, |timeout| u64::from(timeout) + 1),
            max_response_len: self.max_response_len.into(),
            max_session_bytes: self.max_session_bytes.into(),
            max_bytes: usize::from(self.max_session_bytes) + usize::from(self.more_bytes),
        }
    }
}

/// Numbers count from what the model has: far ones are no more than one case each.
#[derive(Arbitrary, Debug)]
enum Step {
    Begin(Asked, i8),
    Record { status: i32, len: u8 },
    RecordAnother(Asked),
    Register { client: u8, nonce: u8, later: i8 },
    Peek(Asked),
    KeepAlive { client: u8, life: i8, later: i8 },
    Unregister { client: u8 },
    Expire { later: u8 },
    Snapshot,
}

#[derive(Arbitrary, Debug)]
struct Asked {
    client: u8,
    life: i8,
    ahead: i8,
    ack: i8,
    digest: Option<bool>,
}

fuzz_target!(|input: (Limits, Vec<Step>)| {
    let (limits, steps) = input;
    let terms = limits.terms();
    let (mut table, mut model, mut last) = (terms.table(), Model::new(terms), None);
    for step in steps {
        let Some(call) = call(&step, &model, last.as_ref()) else {
            if !model.is_open() {
                let bytes = table.freeze().unwrap().to_bytes();
                table = SessionTable::restore(&bytes).unwrap();
                assert_eq!(bytes, table.freeze().unwrap().to_bytes());
            }
            continue;
        };
        if let Call::Begin(numbers, _) = &call {
            last = Some(numbers.clone());
        }
        assert_eq!(call.of_model(&mut model), call.of_table(&mut table), "{call:?}");
        assert!(table.sessions().eq(model.sessions()), "{call:?}");
        assert_eq!(table.now_ms(), model.now());
        assert_eq!(table.response_bytes(), model.bytes() as u64);
    }
});

fn call(step: &Step, model: &Model, last: Option<&Numbers>) -> Option<Call> {
    let now = |later: i8| model.now().saturating_add_signed(later.into());
    Some(match step {
        Step::Begin(asked, later) => Call::Begin(asked.numbers(model), now(*later)),
        Step::Record { status, len } => {
            let data = vec![b'd'; (*len).into()];
            Call::Record(last?.clone(), *status, data)
        }
        Step::RecordAnother(asked) => Call::Record(asked.numbers(model), 0, vec![]),
        Step::Register { client, nonce, later } => {
            Call::Register(vec![*client], vec![*nonce], now(*later))
        }
        Step::Peek(asked) => Call::Peek(asked.numbers(model)),
        Step::KeepAlive { client, life, later } => {
            let incarnation = incarnation(model, &[*client], *life);
            Call::KeepAlive(vec![*client], incarnation, now(*later))
        }
        Step::Unregister { client } => Call::Unregister(vec![*client]),
        Step::Expire { later } => Call::Expire(model.now() + u64::from(*later)),
        Step::Snapshot => return None,
    })
}

impl Asked {
    fn numbers(&self, model: &Model) -> Numbers {
        let client = vec![self.client];
        let there = model.sessions().find(|session| session.client == client);
        let floor = there.map_or(1, |session| session.floor);
        let seq = match self.ahead {
            i8::MAX => u64::MAX - 1,
            ahead => floor.saturating_add_signed(ahead.into()),
        };
        let ack = match self.ack {
            i8::MIN => 0,
            ack => seq.saturating_add_signed(ack.into()),
        };
        let incarnation = incarnation(model, &client, self.life);
        let digest = self.digest.map(|digest| [u8::from(digest); 16]);
        Numbers { client, incarnation, seq, ack, digest }
    }
}

/// `i8::MIN`: none, the implicit form.
fn incarnation(model: &Model, client: &[u8], life: i8) -> u64 {
    let there = model.sessions().find(|session| session.client == client);
    let there = there.map_or(0, |session| session.incarnation);
    if life == i8::MIN { 0 } else { there.saturating_add_signed(life.into()) }
}
