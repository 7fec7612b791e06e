//! A call, and what the table and the naive model make of it.

use onceflight::session::SessionBegin;
use onceflight::{Error, ErrorKind, Response, SessionTable};

use crate::model::{Model, Numbers, Told};

#[derive(Clone, Debug)]
pub enum Call {
    Register(Vec<u8>, Vec<u8>, u64),
    Begin(Numbers, u64),
    Record(Numbers, i32, Vec<u8>),
    Peek(Numbers),
    KeepAlive(Vec<u8>, u64, u64),
    Unregister(Vec<u8>),
    Expire(u64),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Incarnation(u64),
    Begun(Told),
    Recorded(Told),
    Known(Told),
    Done,
    Expired(u64),
    Refused(ErrorKind),
}

impl Answer {
    pub fn name(&self) -> String {
        match self {
            Self::Incarnation(_) => "registrations".into(),
            Self::Begun(None) => "leads".into(),
            Self::Begun(Some(_)) => "replays".into(),
            Self::Recorded(_) => "records".into(),
            Self::Known(_) => "peeks".into(),
            Self::Done => "done".into(),
            Self::Expired(0) => "none expired".into(),
            Self::Expired(_) => "expired".into(),
            Self::Refused(kind) => format!("{kind:?}"),
        }
    }

    fn of<T, E>(result: Result<T, E>, answer: impl FnOnce(T) -> Self) -> Self
    where
        Refusal: From<E>,
    {
        result.map_or_else(|error| Self::Refused(Refusal::from(error).0), answer)
    }
}

pub struct Refusal(ErrorKind);

impl From<ErrorKind> for Refusal {
    fn from(kind: ErrorKind) -> Self {
        Self(kind)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error.kind())
    }
}

fn told(response: Option<&Response>) -> Told {
    response.map(|response| (response.status(), response.data().to_vec()))
}

impl Call {
    pub fn of_model(&self, model: &mut Model) -> Answer {
        match self {
            Self::Register(client, nonce, now) => {
                Answer::of(model.register(client, nonce, *now), Answer::Incarnation)
            }
            Self::Begin(request, now) => Answer::of(model.begin(request, *now), Answer::Begun),
            Self::Record(request, status, data) => {
                Answer::of(model.record(request, *status, data), Answer::Recorded)
            }
            Self::Peek(it) => {
                Answer::of(model.peek(&it.client, it.incarnation, it.seq), Answer::Known)
            }
            Self::KeepAlive(client, incarnation, now) => {
                Answer::of(model.keep_alive(client, *incarnation, *now), |()| Answer::Done)
            }
            Self::Unregister(client) => Answer::of(model.unregister(client), |()| Answer::Done),
            Self::Expire(now) => Answer::of(model.expire(*now), Answer::Expired),
        }
    }

    pub fn of_table(&self, table: &mut SessionTable) -> Answer {
        match self {
            Self::Register(client, nonce, now) => {
                Answer::of(table.register(client, nonce, *now), Answer::Incarnation)
            }
            Self::Begin(request, now) => {
                Answer::of(table.begin(&request.request(), *now), |begun| match begun {
                    SessionBegin::Lead => Answer::Begun(None),
                    SessionBegin::Replayed(response) => Answer::Begun(told(Some(&response))),
                })
            }
            Self::Record(request, status, data) => {
                let recorded = table.record(&request.request(), *status, data);
                Answer::of(recorded, |response| Answer::Recorded(told(Some(&response))))
            }
            Self::Peek(it) => Answer::of(table.peek(&it.client, it.incarnation, it.seq), |known| {
                Answer::Known(told(known.as_ref()))
            }),
            Self::KeepAlive(client, incarnation, now) => {
                Answer::of(table.keep_alive(client, *incarnation, *now), |()| Answer::Done)
            }
            Self::Unregister(client) => Answer::of(table.unregister(client), |()| Answer::Done),
            Self::Expire(now) => Answer::of(table.expire(*now), Answer::Expired),
        }
    }
}
