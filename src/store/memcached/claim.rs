//! What a claim comes to, as things stand.

use super::item::{Item, span};
use super::{Seeing, Turn, wall};
use crate::store::{Claim, Claimed, Grant, Held, RecordKey, RecordState};

pub(super) fn decide(
    key: &RecordKey,
    claim: &Claim<'_>,
    seeing: Option<Seeing<'_>>,
) -> Turn<Claimed> {
    let Some(seeing) = seeing else { return grant(key, claim, 0, None) };
    let expired = seeing.is_expired();
    let Seeing { item, unchanged } = seeing;
    let Some(state) = item.state else { return grant(key, claim, item.held.epoch, None) };
    let in_progress = state == RecordState::InProgress;
    if in_progress && item.held.token == claim.token {
        // Sent again: the first answer was lost.
        return Turn::Answer(Claimed::Lead(granted(&item, false)));
    }
    let same = item.fingerprint == claim.fingerprint;
    let follows = claim.following.is_some_and(|epoch| item.held.epoch >= epoch);
    if same
        && (follows || !expired)
        && let Some(response) = item.response()
    {
        return Turn::Answer(Claimed::Completed(response));
    }
    if expired {
        return grant(key, claim, item.held.epoch, None);
    }
    if !same && (state != RecordState::Released || item.checkpoint.is_some()) {
        return Turn::Answer(Claimed::Mismatch);
    }
    if item.is_live(unchanged) {
        let (epoch, lease_left) = (item.held.epoch, item.lease_left(unchanged));
        let claimed = Claimed::InProgress { epoch, lease_left };
        return if claim.watch && !item.watched {
            Turn::write(&Item { watched: true, ..item }, claimed)
        } else {
            Turn::Answer(claimed)
        };
    }
    if in_progress && !claim.take_over {
        return Turn::Answer(Claimed::Unknown);
    }
    grant(key, claim, item.held.epoch, same.then_some(&item))
}

/// A lead for a claim. `before` is the same flight's, which goes on.
fn grant(
    key: &RecordKey,
    claim: &Claim<'_>,
    last_epoch: u64,
    before: Option<&Item<'_>>,
) -> Turn<Claimed> {
    let epoch = last_epoch.saturating_add(1).max(wall::now());
    let item = Item {
        state: Some(RecordState::InProgress),
        held: Held { token: claim.token, epoch },
        attempt: before.map_or(1, |item| item.attempt.saturating_add(1)),
        lease: span(claim.lease),
        keep: span(claim.keep),
        expires: wall::NEVER,
        status: 0,
        beat: 0,
        watched: false,
        scope: key.scope(),
        key: key.key(),
        fingerprint: claim.fingerprint,
        checkpoint: before.and_then(|item| item.checkpoint),
        body: None,
    };
    let lost = before.is_some_and(|item| item.state == Some(RecordState::InProgress));
    Turn::write(&item, Claimed::Lead(granted(&item, lost)))
}

fn granted(item: &Item<'_>, taken_over: bool) -> Grant {
    Grant {
        epoch: item.held.epoch,
        attempt: item.attempt,
        checkpoint: item.checkpoint.map(Into::into),
        taken_over,
    }
}
