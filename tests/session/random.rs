//! Random calls: every answer is the naive model's; and of four tables that see the same calls, one is
//! left alone, one is made anew of its snapshot now and then, one of its rows, and one is frozen all the
//! time. All are the same, byte by byte.
//!
//! `ONCEFLIGHT_SEQUENCES` says how many sequences there are, `ONCEFLIGHT_SEED` which.

use std::collections::BTreeMap;
use std::env;

use onceflight::SessionTable;
use onceflight::session::Snapshot;

use crate::calls::Call;
use crate::model::{Model, Numbers, Terms};
use crate::rows::Rows;
use crate::support::{Calls, Random, seed};

const CALLS: usize = 120;

#[test]
fn it_does_what_the_model_does() {
    let sequences =
        env::var("ONCEFLIGHT_SEQUENCES").map_or(2000, |it| it.parse().expect("a number"));
    let mut counts = BTreeMap::new();
    let first = seed();
    for number in 0..sequences {
        let seed = first.wrapping_add(number);
        let failed = Tables::new(&mut Random(seed)).run(&mut Random(seed), &mut counts);
        assert!(
            failed.is_ok(),
            "ONCEFLIGHT_SEED={seed} ONCEFLIGHT_SEQUENCES=1: {}",
            failed.unwrap_err()
        );
    }
    println!("{counts:#?}");
    if sequences < 100 {
        return; // one that failed, again
    }
    // A sequence that gets nowhere proves nothing: each of these must have come up again and again.
    let kinds = [
        "Expired",
        "Fenced",
        "SeqStale",
        "WindowFull",
        "Conflict",
        "Malformed",
        "TooLarge",
        "Invalid",
    ];
    for what in kinds.into_iter().chain(["leads", "replays", "expired", "snapshots", "loads"]) {
        let times = counts.get(what).copied().unwrap_or(0);
        assert!(times >= 50, "{what}: only {times} times");
    }
}

struct Tables {
    model: Model,
    alone: SessionTable,
    restored: SessionTable,
    loaded: SessionTable,
    rows: Rows,
    shared: SessionTable,
    /// What `shared` was frozen as, and the bytes it must have.
    frozen: Option<(Snapshot, Vec<u8>)>,
}

impl Tables {
    fn new(random: &mut Random) -> Self {
        let terms = terms(random);
        let table = || terms.table();
        let (model, rows) = (Model::new(terms), Rows::default());
        let (alone, restored, loaded, shared) = (table(), table(), table(), table());
        Self { model, alone, restored, loaded, rows, shared, frozen: None }
    }

    fn run(
        &mut self,
        random: &mut Random,
        counts: &mut BTreeMap<String, usize>,
    ) -> Result<(), String> {
        let mut client = Client::new(random);
        for at in 0..CALLS {
            let call = client.call(random, &self.model);
            let context = |what: &str| format!("call {at}, {call:?}: {what}");
            let answer = call.of_model(&mut self.model);
            let tables = [&mut self.alone, &mut self.restored, &mut self.loaded, &mut self.shared];
            for (table, name) in tables.into_iter().zip(["alone", "restored", "loaded", "shared"]) {
                let real = call.of_table(table);
                if real != answer {
                    return Err(context(&format!("{name}: {real:?}, the model {answer:?}")));
                }
                let same = table.sessions().eq(self.model.sessions())
                    && table.now_ms() == self.model.now()
                    && table.response_bytes() == self.model.bytes() as u64;
                if !same {
                    return Err(context(&format!("{name} isn't as the model")));
                }
            }
            *counts.entry(answer.name()).or_default() += 1;
            if !self.model.is_open() && random.one_in(8) {
                self.renew(random, counts).map_err(|what| context(&what))?;
            }
        }
        Ok(())
    }

    /// All are the same; some are made anew.
    fn renew(
        &mut self,
        random: &mut Random,
        counts: &mut BTreeMap<String, usize>,
    ) -> Result<(), String> {
        let bytes = self.alone.bytes();
        for (table, name) in
            [(&self.restored, "restored"), (&self.loaded, "loaded"), (&self.shared, "shared")]
        {
            if table.bytes() != bytes {
                return Err(format!("{name} has another snapshot"));
            }
        }
        if let Some((frozen, was)) = self.frozen.take()
            && frozen.to_bytes() != was
        {
            return Err("what was frozen has changed".into());
        }
        let mut count = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
        if random.one_in(2) {
            count("snapshots");
            self.restored = SessionTable::restore(&bytes).map_err(|error| error.to_string())?;
        }
        if random.one_in(2) {
            self.loaded.save(&mut self.rows).map_err(|error| format!("{error:?}"))?;
            if random.one_in(2) {
                count("loads");
                self.loaded = self.rows.load().map_err(|error| error.to_string())?;
            }
        }
        if random.one_in(2) {
            self.frozen = Some((self.shared.freeze().expect("no entry is open"), bytes));
        }
        Ok(())
    }
}

fn terms(random: &mut Random) -> Terms {
    let window = *random.of(&[1, 2, 3, 4, 5, 8, 17, 64]);
    let max_session_bytes = *random.of(&[0, 8, 20, 1000]);
    Terms {
        max_sessions: *random.of(&[1, 2, 3, 6, 50]),
        window,
        timeout: *random.of(&[1, 10, 40, u64::MAX]),
        max_response_len: *random.of(&[0, 4, 9, 1000]),
        max_session_bytes,
        max_bytes: max_session_bytes + *random.of(&[0, 5, 1000]),
    }
}

/// Who makes the calls: mostly what a client would, near enough to it otherwise that it matters.
struct Client {
    names: Vec<Vec<u8>>,
    open: Option<Numbers>,
    /// The first request of a sequence that begins late.
    first: u64,
}

impl Client {
    fn new(random: &mut Random) -> Self {
        let len = *random.of(&[1, 1, 1, 22, 23, 255, 256]);
        let names = (0..random.within(1..7)).map(|name| vec![u8::try_from(name).unwrap(); len]);
        let first = *random.of(&[1, 1, 1, 1 << 33, u64::MAX - 40]);
        Self { names: names.collect(), open: None, first }
    }

    fn call(&mut self, random: &mut Random, model: &Model) -> Call {
        if let Some(open) = &self.open
            && model.is_open()
            && !random.one_in(20)
        {
            let open = open.clone();
            return Call::Record(open, *random.of(&[-1, 0, 1]), Self::data(random));
        }
        let client = random.of(&self.names).clone();
        match random.within(0..20) {
            0 | 1 => Call::Register(client, vec![*random.of(&[0, 1, 2])], Self::now(random, model)),
            2 => Call::KeepAlive(
                client.clone(),
                Self::incarnation(random, model, &client),
                Self::now(random, model),
            ),
            3 if random.one_in(4) => Call::Unregister(client),
            4 if random.one_in(2) => Call::Expire(Self::now(random, model)),
            5 | 6 => Call::Peek(self.request(random, model, client)),
            7 if random.one_in(8) => Call::Record(self.request(random, model, client), 0, vec![]),
            _ => {
                let request = self.request(random, model, client);
                self.open = Some(request.clone());
                Call::Begin(request, Self::now(random, model))
            }
        }
    }

    /// Mostly on, now and then back, seldom far.
    fn now(random: &mut Random, model: &Model) -> u64 {
        match random.within(0..30) {
            0 => model.now().saturating_sub(random.within(0..50)),
            1 => model.now() + random.within(0..50),
            it => model.now() + it % 2,
        }
    }

    fn incarnation(random: &mut Random, model: &Model, client: &[u8]) -> u64 {
        let there = model.sessions().find(|session| session.client == client);
        let there = there.map_or(0, |session| session.incarnation);
        match random.within(0..12) {
            0 => there.saturating_sub(1),
            1 => there + 1,
            2 | 3 => 0,
            _ => there,
        }
    }

    fn request(&self, random: &mut Random, model: &Model, client: Vec<u8>) -> Numbers {
        let incarnation = Self::incarnation(random, model, &client);
        let there = model.sessions().find(|session| session.client == client);
        let floor = there.map_or(1, |session| session.floor);
        let reach = *random.of(&[2, 4, 8, 70]);
        let mut seq =
            floor.saturating_add(random.within(0..reach)).saturating_sub(random.within(0..2));
        if floor < self.first && random.one_in(5) {
            seq = self.first;
        }
        let ack = match random.within(0..8) {
            0..4 => 0,
            4 | 5 => floor.min(seq),
            6 => seq.saturating_sub(random.within(0..5)),
            _ => seq.saturating_add(random.within(0..2)),
        };
        let digest = match random.within(0..10) {
            0 => Some([1; 16]),
            1 => Some([2; 16]),
            _ => None,
        };
        Numbers { client, incarnation, seq, ack, digest }
    }

    fn data(random: &mut Random) -> Vec<u8> {
        vec![b'd'; usize::try_from(random.within(0..12)).unwrap()]
    }
}
