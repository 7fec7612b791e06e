// Sessions in C++: ownership, exceptions, apply. What the table itself does is tested in C.
#include <functional>
#include <map>
#include <type_traits>

#include "../c/check.h"
#include "onceflight.hpp"

namespace {

using namespace onceflight;
using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<Sessions> && !std::is_copy_assignable_v<Sessions>);
static_assert(std::is_nothrow_move_constructible_v<Sessions> && std::is_nothrow_move_assignable_v<Sessions>);

// The code a call throws, or 0.
std::int32_t thrown(const std::function<void()> &call)
{
    try {
        call();
    } catch (const Error &error) {
        CHECK(std::string_view(error.what()) != "");
        return error.code();
    }
    return 0;
}

void a_request_is_applied_once()
{
    Sessions sessions;
    int balance = 0;
    const auto incarnation = sessions.register_client("client", "nonce", 1000ms);
    const auto deposit = [&] {
        balance += 10;
        return Body{7, std::to_string(balance)};
    };
    for (const auto role : {Role::led, Role::replayed}) {
        const auto answer = sessions.apply({"client", incarnation, 1}, 2000ms, deposit);
        CHECK(answer.role() == role && answer.status() == 7 && answer.body() == "10");
    }
    CHECK(balance == 10);
    CHECK(sessions.apply({"client", incarnation, 2}, 2000ms, [] { return std::string("bytes alone"); }).status() == 0);
    CHECK(sessions.peek("client", incarnation, 2)->body() == "bytes alone");
    CHECK(!sessions.peek("client", incarnation, 3));
}

void begin_and_record_by_hand()
{
    Sessions sessions;
    const SessionRequest request{"client", 0, 1};
    CHECK(!sessions.begin(request, 0ms));
    EXPECT(ONCEFLIGHT_E_INVALID, thrown([&] { (void)sessions.snapshot(); }));
    sessions.record(request, 1, "body");
    const auto again = sessions.begin(request, 0ms);
    CHECK(again && again->status() == 1 && again->body() == "body");
}

void an_exception_leaves_the_entry_open()
{
    Sessions sessions;
    const SessionRequest request{"client", 0, 1};
    const auto refuses = [&]() -> Body { throw std::runtime_error("half done"); };
    bool caught = false;
    try {
        (void)sessions.apply(request, 0ms, refuses);
    } catch (const std::runtime_error &) {
        caught = true;
    }
    CHECK(caught);
    EXPECT(ONCEFLIGHT_E_INVALID, thrown([&] { (void)sessions.begin({"other", 0, 1}, 0ms); }));
    sessions.record(request, -1, "failed");
    CHECK(sessions.apply(request, 0ms, refuses).status() == -1);
}

void digests_have_sixteen_bytes()
{
    Sessions sessions;
    const auto one = fingerprint({"pay", "10"}), other = fingerprint({"pay", "99"});
    const auto body = [] { return std::string("paid"); };
    CHECK(sessions.apply({"client", 0, 1, 0, one}, 0ms, body).role() == Role::led);
    CHECK(sessions.apply({"client", 0, 1, 0, one}, 0ms, body).role() == Role::replayed);
    EXPECT(ONCEFLIGHT_E_CONFLICT, thrown([&] { (void)sessions.apply({"client", 0, 1, 0, other}, 0ms, body); }));
    EXPECT(ONCEFLIGHT_E_INVALID, thrown([&] { (void)sessions.begin({"client", 0, 2, 0, "short"}, 0ms); }));
}

void sessions_live_by_the_logs_time()
{
    Sessions sessions(SessionLimits().timeout(1s).window(2).max_sessions(2));
    const auto a = sessions.register_client("a", "n", 0ms);
    sessions.register_client("b", "n", 0ms);
    sessions.keep_alive("a", a, 999ms);
    CHECK(sessions.expire(1s) == 1);
    EXPECT(ONCEFLIGHT_E_EXPIRED, thrown([&] { sessions.unregister("b"); }));
    const auto acked = [&](std::uint64_t seq, std::uint64_t ack) { (void)sessions.begin({"a", a, seq, ack}, 1s); };
    EXPECT(ONCEFLIGHT_E_WINDOW_FULL, thrown([&] { acked(3, 0); }));
    EXPECT(ONCEFLIGHT_E_MALFORMED, thrown([&] { acked(3, 4); }));
    EXPECT(0, thrown([&] { acked(3, 2); }));
    sessions.record({"a", a, 3}, 0, "");
    EXPECT(ONCEFLIGHT_E_SEQ_STALE, thrown([&] { acked(1, 0); }));
    const auto second = sessions.register_client("a", "another", 1s);
    EXPECT(ONCEFLIGHT_E_FENCED, thrown([&] { acked(3, 0); }));
    CHECK(second > a && sessions.stats().sessions == 1 && sessions.stats().now_ms == 1000);
    sessions.unregister("a");
    CHECK(sessions.stats().sessions == 0);
}

void limits_reach_the_table()
{
    Sessions sessions(SessionLimits().max_response_len(4).max_session_bytes(6).max_bytes(9));
    const auto apply = [&](std::string_view client, std::string body) {
        (void)sessions.apply({client, 0, 1}, 0ms, [&] { return body; });
    };
    EXPECT(ONCEFLIGHT_E_TOO_LARGE, thrown([&] { apply("a", "12345"); }));
    for (const char *client : {"b", "c", "d"})
        apply(client, "1234");
    CHECK(sessions.stats().response_bytes == 8);
    EXPECT(ONCEFLIGHT_E_INVALID, thrown([] { Sessions(SessionLimits().window(65)); }));
    EXPECT(0, thrown([] { Sessions(SessionLimits().timeout(forever)); }));
}

void a_snapshot_outlives_its_table_and_is_restored()
{
    std::optional<Sessions> first(std::in_place);
    const auto client = first->register_client("client", "nonce", 5ms);
    (void)first->apply({"client", client, 1}, 6ms, [] { return std::string("kept"); });
    const Response snapshot = first->snapshot();
    first.reset();
    Sessions restored = Sessions::restore(snapshot.body());
    CHECK(restored.begin({"client", client, 1}, 7ms)->body() == "kept");
    Sessions moved = std::move(restored);
    CHECK(moved.stats().now_ms == 7);
    EXPECT(ONCEFLIGHT_E_NULL, thrown([&] { (void)restored.stats(); })); // NOLINT: what is left of it is what is tested
    EXPECT(ONCEFLIGHT_E_FORMAT, thrown([] { (void)Sessions::restore("garbage"); }));
}

void rows_go_to_a_database_and_come_back()
{
    std::string own;
    std::map<std::string, std::string, std::less<>> rows;
    const auto put = [&](std::optional<std::string_view> client, std::optional<std::string_view> row) {
        if (!client)
            own = row.value();
        else if (row)
            rows[std::string(*client)] = *row;
        else
            rows.erase(std::string(*client));
    };
    Sessions sessions;
    for (const char *client : {"", "b", "c"})
        (void)sessions.apply({client, 0, 1}, 5ms, [] { return std::string("kept"); });
    sessions.save(put);
    sessions.unregister("b");
    sessions.save(put);
    CHECK(rows.size() == 2);
    Sessions loaded = Sessions::load(own, {rows.at("c"), rows.at("")});
    CHECK(loaded.snapshot().body() == sessions.snapshot().body());
    EXPECT(ONCEFLIGHT_E_FORMAT, thrown([&] { (void)Sessions::load(own, {rows.at("c")}); }));
    (void)loaded.begin({"", 0, 2}, 6ms);
    EXPECT(ONCEFLIGHT_E_INVALID, thrown([&] { loaded.save(put); }));
}

} // namespace

int main()
{
    RUN(a_request_is_applied_once);
    RUN(begin_and_record_by_hand);
    RUN(an_exception_leaves_the_entry_open);
    RUN(digests_have_sixteen_bytes);
    RUN(sessions_live_by_the_logs_time);
    RUN(limits_reach_the_table);
    RUN(a_snapshot_outlives_its_table_and_is_restored);
    RUN(rows_go_to_a_database_and_come_back);
    return check_done("sessions_raii");
}
