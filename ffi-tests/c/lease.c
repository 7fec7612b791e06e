/* Leases: takeover, the late leader, HOLD and RECOVER, renewal and the heartbeat. Where a lease has to pass, a
 * caller waits for it in line or asks until the answer changes; nothing assumes how long that takes. */
#define _POSIX_C_SOURCE 200809L
#include "support.h"

static onceflight_lead lead_with_lease(const onceflight_table *table, const char *key, uint64_t lease_ms)
{
    onceflight_request request = request_for(key);
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    request.lease_ms = lease_ms;
    REQUIRE(onceflight_begin_request(table, &request, &lead, &response) == ONCEFLIGHT_LEAD);
    return lead;
}

static onceflight_table *holding_table(void)
{
    return table_with(onceflight_options_set_on_lease_expired, ONCEFLIGHT_HOLD,
                      onceflight_options_set_completed_ttl_ms, HOUR_MS);
}

static void await_unknown(const onceflight_table *table, const char *key)
{
    while (probe(table, key) != ONCEFLIGHT_E_UNKNOWN)
        sched_yield();
}

static void a_passed_lease_is_taken_over_by_who_waits(void)
{
    onceflight_table *table = table_with(onceflight_options_set_completed_ttl_ms, HOUR_MS, NULL, 0);
    double start = now_ms();
    onceflight_lead late = lead_with_lease(table, "key", 30), lead;
    onceflight_lead_info before = details_of(table, late), after;
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, late, BYTES("half done")));
    lead = lead_of(table, "key");
    CHECK(now_ms() - start >= 29);
    after = details_of(table, lead);
    CHECK(after.attempt == 2 && after.fence > before.fence && response_is(after.checkpoint, 0, "half done"));
    onceflight_response_free(after.checkpoint);
    CHECK(stats_of(table).takeovers == 1 && stats_of(table).leads == 2);

    /* Whatever the late leader tries, it changes nothing. */
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 1, BYTES("late")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete_for(table, late, 1, BYTES("late"), 1000));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_cancel(table, late));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_abandon(table, late));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_decline(table, late));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_renew(table, late, 1000));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_checkpoint(table, late, BYTES("late")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_lead_details(table, late, &before));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 2, BYTES("in time")));
    EXPECT(ONCEFLIGHT_REPLAYED, probe(table, "key"));
    CHECK(stats_of(table).stale == 8);
    onceflight_table_free(table);
}

static void a_passed_lease_is_taken_over_by_who_comes(void)
{
    onceflight_table *table = table_with(onceflight_options_set_lease_ms, 1, NULL, 0);
    onceflight_lead late = lead_of(table, "key"), lead = 0;
    onceflight_response *response = NULL;
    int32_t outcome;
    do {
        outcome = onceflight_begin(table, BYTES("key"), 0, &lead, &response);
        CHECK(outcome == ONCEFLIGHT_LEAD || outcome == ONCEFLIGHT_E_TIMEOUT);
    } while (outcome == ONCEFLIGHT_E_TIMEOUT);
    CHECK(details_of(table, lead).attempt == 2);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 0, NULL, 0));
    onceflight_table_free(table);
}

/* A promoted follower leads under its own request's lease: had it the first leader's, the last caller would lead. */
static void a_promoted_follower_leads_under_its_own_lease(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead first = lead_with_lease(table, "key", 1);
    onceflight_request request = request_for("key");
    caller successor;
    request.lease_ms = FOREVER;
    caller_start_request(&successor, table, request);
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&successor));
    request.timeout_ms = 50;
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin_request(table, &request, &first, &successor.response));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, successor.lead));
    onceflight_table_free(table);
}

static void hold_answers_unknown_until_somebody_recovers(void)
{
    onceflight_table *table = holding_table();
    onceflight_lead late = lead_with_lease(table, "key", 1), lead = 0;
    onceflight_request recover = request_for("key");
    onceflight_response *response = NULL;
    caller follower;
    caller_start(&follower, table, "key");
    EXPECT(ONCEFLIGHT_E_UNKNOWN, caller_outcome(&follower));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, onceflight_begin(table, BYTES("key"), FOREVER, &lead, &response));
    recover.flags = ONCEFLIGHT_RECOVER;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &recover, &lead, &response));
    CHECK(details_of(table, lead).attempt == 2);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 7, BYTES("recovered")));
    EXPECT(ONCEFLIGHT_REPLAYED, probe(table, "key"));
    onceflight_table_free(table);
}

static void hold_holds_an_abandoned_flight_too(void)
{
    onceflight_table *table = holding_table();
    onceflight_lead lead = lead_of(table, "key");
    onceflight_request recover = request_for("key");
    onceflight_response *response = NULL;
    caller follower;
    caller_join_line(&follower, table, "key", 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, caller_outcome(&follower));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, probe(table, "key"));
    recover.flags = ONCEFLIGHT_RECOVER;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &recover, &lead, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    EXPECT(ONCEFLIGHT_LEAD, probe(table, "key"));
    onceflight_table_free(table);
}

static void until_somebody_takes_over_the_old_lead_may_complete(void)
{
    onceflight_table *table = holding_table();
    onceflight_lead lead = lead_with_lease(table, "key", 1), none = 0;
    onceflight_response *response = NULL;
    await_unknown(table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 4, BYTES("late but first")));
    EXPECT(ONCEFLIGHT_REPLAYED, onceflight_begin(table, BYTES("key"), 0, &none, &response));
    CHECK(response_is(response, 4, "late but first"));
    onceflight_response_free(response);
    onceflight_table_free(table);
}

static void until_somebody_takes_over_the_old_lead_may_renew(void)
{
    onceflight_table *table = holding_table();
    onceflight_lead lead = lead_with_lease(table, "key", 1);
    await_unknown(table, "key");
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, FOREVER));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, "key"));
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, 1));
    await_unknown(table, "key");
    onceflight_table_free(table);
}

/* An offer is no takeover: until its event is read, a leader that is merely late may still complete. */
static void until_an_offer_is_read_the_old_lead_may_complete(void)
{
    onceflight_table *table = table_with(onceflight_options_set_offer_ms, HOUR_MS, NULL, 0);
    onceflight_lead late = lead_of(table, "key"), none = 0;
    onceflight_request request = request_for("key");
    onceflight_response *response = NULL;
    onceflight_queue *queue = NULL;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_new(&queue));
    EXPECT(ONCEFLIGHT_PENDING, onceflight_begin_async(table, &request, queue, 1, &none, &response));
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, late, 1));
    CHECK(readable(onceflight_queue_fd(queue), HANG_SECONDS * 1000));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, late, 6, BYTES("late")));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(queue, FOREVER, &event));
    CHECK(event.outcome == ONCEFLIGHT_SHARED && response_is(event.response, 6, "late"));
    onceflight_response_free(event.response);
    CHECK(stats_of(table).takeovers == 0 && stats_of(table).stale == 0);
    onceflight_queue_free(queue);
    onceflight_table_free(table);
}

static void a_passed_lease_does_not_free_the_fingerprint(void)
{
    onceflight_table *table = holding_table();
    onceflight_request request = request_for("key"), other = request_for("key");
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    request.fingerprint = (const uint8_t *)"one";
    request.fingerprint_len = 3;
    request.lease_ms = 1;
    other.fingerprint = (const uint8_t *)"two";
    other.fingerprint_len = 3;
    EXPECT(ONCEFLIGHT_LEAD, onceflight_begin_request(table, &request, &lead, &response));
    while (probe_request(table, request) != ONCEFLIGHT_E_UNKNOWN)
        sched_yield();
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    other.flags = ONCEFLIGHT_RECOVER;
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    onceflight_table_free(table);
}

/* A shorter lease given by renew reaches a follower that already waits for the longer one to pass. */
static void a_lease_cut_short_reaches_those_who_wait(void)
{
    onceflight_table *table = new_table(NULL);
    onceflight_lead lead = lead_with_lease(table, "key", HOUR_MS);
    caller follower;
    caller_join_line(&follower, table, "key", 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, 1));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&follower));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_renew(table, lead, 1000));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, follower.lead));
    onceflight_table_free(table);
}

/* The heartbeat keeps a lease of 1 ms alive, and ends with max_lead_ms. */
static void a_heartbeat_renews_no_longer_than_max_lead(void)
{
    onceflight_options *options = onceflight_options_new();
    onceflight_table *table;
    onceflight_lead late;
    double start = now_ms();
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_lease_ms(options, 1));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_heartbeat(options, 1));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_max_lead_ms(options, 100));
    table = new_table(options);
    onceflight_options_free(options);
    late = lead_of(table, "key");
    lead_of(table, "key");
    CHECK(now_ms() - start >= 99);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 0, NULL, 0));
    onceflight_table_free(table);
}

int main(void)
{
    RUN(a_passed_lease_is_taken_over_by_who_waits);
    RUN(a_passed_lease_is_taken_over_by_who_comes);
    RUN(a_promoted_follower_leads_under_its_own_lease);
    RUN(hold_answers_unknown_until_somebody_recovers);
    RUN(hold_holds_an_abandoned_flight_too);
    RUN(until_somebody_takes_over_the_old_lead_may_complete);
    RUN(until_somebody_takes_over_the_old_lead_may_renew);
    RUN(until_an_offer_is_read_the_old_lead_may_complete);
    RUN(a_passed_lease_does_not_free_the_fingerprint);
    RUN(a_lease_cut_short_reaches_those_who_wait);
    RUN(a_heartbeat_renews_no_longer_than_max_lead);
    return check_done("lease");
}
