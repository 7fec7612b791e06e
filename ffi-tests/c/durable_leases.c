/* durable_leases URL: leases, takeover, checkpoints, HOLD and RECOVER, unchanged over memory and every store. */
#define _POSIX_C_SOURCE 200809L
#include "durable.h"

/* Whatever a lead tries that was overtaken, it changes nothing. */
static void expect_stale(const onceflight_table *table, onceflight_lead late)
{
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    uint64_t before = stats_of(table).stale;
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 1, BYTES("late")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete_for(table, late, 1, BYTES("late"), 1000));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_cancel(table, late));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_abandon(table, late));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_decline(table, late));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_renew(table, late, 1000));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_checkpoint(table, late, BYTES("late")));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_lead_details(table, late, &info));
    CHECK(stats_of(table).stale == before + 8);
}

static void a_passed_lease_is_taken_over_by_who_waits(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_request request = request_for(key);
    onceflight_lead late, lead;
    onceflight_lead_info info;
    uint64_t fence;
    double start = now_ms();
    request.lease_ms = 200;
    late = lead_by(table, request);
    fence = details_of(table, late).fence;
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, late, BYTES("a third")));
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, late, BYTES("half done")));
    info = details_of(table, late);
    CHECK(info.attempt == 1 && response_is(info.checkpoint, 0, "half done"));
    onceflight_response_free(info.checkpoint);
    lead = lead_of(table, key);
    CHECK(now_ms() - start >= 199);
    info = details_of(table, lead);
    CHECK(info.attempt == 2 && info.fence > fence && response_is(info.checkpoint, 0, "half done"));
    onceflight_response_free(info.checkpoint);
    CHECK(stats_of(table).takeovers == 1 && stats_of(table).leads == 2);
    expect_stale(table, late);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 2, BYTES("in time")));
    CHECK(replays(table, key, 2, "in time"));
    onceflight_table_free(table);
}

static void a_passed_lease_is_taken_over_by_who_comes(void)
{
    onceflight_table *table = opened_with(onceflight_options_set_lease_ms, 30, NULL, 0);
    const char *key = new_key();
    onceflight_lead late = lead_of(table, key), lead = 0;
    onceflight_response *response = NULL;
    int32_t outcome;
    do {
        outcome = onceflight_begin(table, (const uint8_t *)key, strlen(key), 0, &lead, &response);
        CHECK(outcome == ONCEFLIGHT_LEAD || outcome == ONCEFLIGHT_E_TIMEOUT);
    } while (outcome == ONCEFLIGHT_E_TIMEOUT);
    CHECK(details_of(table, lead).attempt == 2);
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, HOUR_MS));
    expect_stale(table, late);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    onceflight_table_free(table);
}

static void a_renewed_lease_lasts_as_long_as_it_says(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_request request = request_for(key);
    onceflight_lead lead, none = 0;
    onceflight_response *response = NULL;
    caller follower;
    request.lease_ms = 200;
    lead = lead_by(table, request);
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, FOREVER));
    request.timeout_ms = 400;
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin_request(table, &request, &none, &response));
    EXPECT(ONCEFLIGHT_E_INVALID, onceflight_renew(table, lead, 0));

    /* One cut short reaches those who wait already. */
    caller_join_line(&follower, table, key, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, 1));
    EXPECT(ONCEFLIGHT_LEAD, caller_outcome(&follower));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_renew(table, lead, HOUR_MS));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, follower.lead));
    onceflight_table_free(table);
}

static void a_heartbeat_renews_no_longer_than_max_lead(void)
{
    onceflight_options *options = onceflight_options_new();
    onceflight_table *table = NULL;
    const char *key = new_key();
    onceflight_lead late, lead;
    double start;
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_lease_ms(options, 200));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_heartbeat(options, 1));
    EXPECT(ONCEFLIGHT_OK, onceflight_options_set_max_lead_ms(options, 600));
    REQUIRE(open_with(options, &table) == ONCEFLIGHT_OK);
    onceflight_options_free(options);
    start = now_ms();
    late = lead_of(table, key);
    lead = lead_of(table, key);
    CHECK(now_ms() - start >= 599);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    onceflight_table_free(table);
}

static onceflight_table *holding(void)
{
    return opened_with(onceflight_options_set_on_lease_expired, ONCEFLIGHT_HOLD, NULL, 0);
}

static void await_unknown(const onceflight_table *table, const char *key)
{
    while (probe(table, key) != ONCEFLIGHT_E_UNKNOWN)
        sched_yield();
}

static void hold_answers_unknown_until_somebody_recovers(void)
{
    onceflight_table *table = holding();
    const char *key = new_key();
    onceflight_request request = request_for(key), other;
    onceflight_lead late, lead = 0;
    onceflight_response *response = NULL;
    caller follower;
    request = with_fingerprint(request, "payload");
    request.lease_ms = 100;
    late = lead_by(table, request);
    caller_start_request(&follower, table, request);
    EXPECT(ONCEFLIGHT_E_UNKNOWN, caller_outcome(&follower));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, onceflight_begin_request(table, &request, &lead, &response));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, probe_request(table, request));
    other = with_fingerprint(request, "another");
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    other.flags = ONCEFLIGHT_RECOVER;
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, other));
    request.flags = ONCEFLIGHT_RECOVER;
    request.lease_ms = HOUR_MS;
    lead = lead_by(table, request);
    CHECK(details_of(table, lead).attempt == 2);
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(table, late, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 7, BYTES("recovered")));
    EXPECT(ONCEFLIGHT_REPLAYED, probe_request(table, request));
    onceflight_table_free(table);
}

static void hold_holds_an_abandoned_flight_too(void)
{
    onceflight_table *table = holding();
    const char *key = new_key();
    onceflight_request recover = request_for(key);
    onceflight_lead lead = lead_of(table, key);
    caller follower;
    caller_join_line(&follower, table, key, 0);
    EXPECT(ONCEFLIGHT_OK, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, caller_outcome(&follower));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, probe(table, key));
    recover.flags = ONCEFLIGHT_RECOVER;
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead_by(table, recover)));
    EXPECT(ONCEFLIGHT_LEAD, probe(table, key));
    onceflight_table_free(table);
}

static void until_somebody_takes_over_the_old_lead_may_go_on(void)
{
    onceflight_table *table = holding();
    const char *key = new_key();
    onceflight_request request = request_for(key);
    onceflight_lead lead;
    request.lease_ms = 50;
    lead = lead_by(table, request);
    await_unknown(table, key);
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, HOUR_MS));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, key));
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, 1));
    await_unknown(table, key);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 4, BYTES("late but first")));
    CHECK(replays(table, key, 4, "late but first"));
    onceflight_table_free(table);
}

int main(int argc, char **argv)
{
    REQUIRE(has_url(argc, argv));
    RUN(a_passed_lease_is_taken_over_by_who_waits);
    RUN(a_passed_lease_is_taken_over_by_who_comes);
    RUN(a_renewed_lease_lasts_as_long_as_it_says);
    RUN(a_heartbeat_renews_no_longer_than_max_lead);
    RUN(hold_answers_unknown_until_somebody_recovers);
    RUN(hold_holds_an_abandoned_flight_too);
    RUN(until_somebody_takes_over_the_old_lead_may_go_on);
    return check_done("durable_leases");
}
