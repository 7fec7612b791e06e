// The C++ layer: ownership, exceptions, run, the queue. What the library itself does is tested in C.
#include <array>
#include <atomic>
#include <functional>
#include <thread>
#include <type_traits>

#include <poll.h>

#include "../c/check.h"
#include "onceflight.hpp"

namespace {

using namespace onceflight;
using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<Lead> && !std::is_copy_assignable_v<Lead>);
static_assert(std::is_nothrow_move_constructible_v<Lead> && std::is_nothrow_move_assignable_v<Lead>);
static_assert(!std::is_copy_constructible_v<Table> && std::is_nothrow_move_constructible_v<Table>);
static_assert(!std::is_copy_constructible_v<Queue> && std::is_nothrow_move_constructible_v<Queue>);
static_assert(std::is_copy_constructible_v<Response> && std::is_nothrow_move_constructible_v<Response>);

// The code a call throws, or 0.
std::int32_t thrown(const std::function<void()> &call)
{
    try {
        call();
    } catch (const Error &error) {
        CHECK(std::string_view(error.what()) != "");
        CHECK(std::string_view(error.name()) == onceflight_err_name(error.code()));
        return error.code();
    }
    return 0;
}

void await_waiting(const Table &table, std::uint64_t count)
{
    while (table.stats().waiting != count)
        std::this_thread::yield();
}

Request at_once(std::string_view key)
{
    Request request(key);
    request.timeout = 0ms;
    return request;
}

void a_lead_that_is_dropped_abandons()
{
    Table table;
    {
        auto outcome = table.begin("key");
        CHECK(outcome.leads() && outcome.code() == ONCEFLIGHT_LEAD && outcome.lead() && !outcome.response());
        CHECK(outcome.lead().details().attempt == 1);
        EXPECT(ONCEFLIGHT_E_TIMEOUT, thrown([&] { (void)table.begin(at_once("key")); }));
    }
    auto next = table.begin("key");
    CHECK(next.leads() && next.lead().details().attempt == 2);
}

void a_lead_settles_once_and_then_is_empty()
{
    Table table(Options().completed_ttl(1h));
    Lead lead = std::move(table.begin("key").lead());
    lead.complete(200, "body");
    CHECK(!lead && lead.id() == 0);
    EXPECT(ONCEFLIGHT_E_STALE, thrown([&] { lead.complete(200, "again"); }));
    EXPECT(ONCEFLIGHT_E_NULL, thrown([] { Lead().cancel(); }));
    const auto replay = table.begin("key");
    CHECK(replay.replayed() && replay.response().status() == 200 && replay.response().body() == "body");
    table.forget("key");
    CHECK(table.begin("key").leads());
}

void a_moved_lead_leaves_nothing_behind()
{
    Table table;
    Lead first = std::move(table.begin("first").lead());
    Lead moved = std::move(first);
    CHECK(moved && !first); // NOLINT: what is left of it is what is tested
    Lead second = std::move(table.begin("second").lead());
    moved = std::move(second);
    // The lead it held was abandoned by the assignment.
    CHECK(table.begin("first").lead().details().attempt == 2);
    Lead &same = moved;
    moved = std::move(same);
    CHECK(moved);
    moved.cancel();
    CHECK(table.stats().in_flight == 1);
}

void every_settlement_reaches_a_follower()
{
    Table table;
    const auto follow = [&](const std::function<void(Lead &)> &settle) {
        Lead lead = std::move(table.begin("key").lead());
        std::optional<Outcome> outcome;
        std::thread follower([&] { outcome.emplace(table.begin("key")); });
        await_waiting(table, 1);
        settle(lead);
        follower.join();
        return std::move(*outcome);
    };
    auto shared = follow([](Lead &lead) { lead.complete_for(1, "x", 0ms); });
    CHECK(shared.shared() && shared.response().status() == 1 && !shared.lead());
    CHECK(follow([](Lead &lead) { lead.decline(); }).bypassed());
    CHECK(follow([](Lead &lead) { lead.cancel(); }).leads());
    table.forget("key");
    auto told = follow([](Lead &lead) { lead.cancel_with(503, "not now"); });
    CHECK(told.shared() && told.response().status() == 503 && told.response().body() == "not now");
    told = follow([](Lead &lead) { lead.abandon_with(500, "broke"); });
    CHECK(told.shared() && told.response().status() == 500 && told.response().body() == "broke");
    CHECK(table.begin("key").lead().details().attempt == 2);
    table.forget("key");
    CHECK(follow([](Lead &lead) { lead.abandon(); }).lead().details().attempt == 2);
}

void leases_and_checkpoints()
{
    Table table(Options().lease(1h));
    Lead late = std::move(table.begin("key").lead());
    late.checkpoint("half done");
    late.renew(1ms);
    auto successor = table.begin("key");
    const auto details = successor.lead().details();
    CHECK(details.attempt == 2 && details.fence > 0 && details.checkpoint.body() == "half done");
    EXPECT(ONCEFLIGHT_E_STALE, thrown([&] { late.complete(0, ""); }));
    CHECK(!late);
    successor.lead().renew(forever);
    successor.lead().cancel();
}

void a_response_counts_its_references()
{
    Response kept;
    CHECK(!kept && kept.body().empty() && kept.status() == 0);
    {
        Table table(Options().completed_ttl(1h));
        table.begin("key").lead().complete(3, "kept");
        const Response first = table.begin("key").response();
        const Response second = first; // NOLINT: the copy is what is tested
        kept = second;
        CHECK(kept.body().data() == first.body().data());
    }
    CHECK(kept && kept.status() == 3 && kept.body() == "kept");
    Response moved = std::move(kept);
    CHECK(moved.body() == "kept");
    moved = Response();
    CHECK(!moved);
}

void leads_and_queues_may_outlive_their_table()
{
    std::optional<Table> table(std::in_place);
    Lead lead = std::move(table->begin("key").lead());
    Queue queue(*table);
    CHECK(queue.begin("key", 7).pending());
    table.reset();
    const auto event = queue.next(forever);
    CHECK(event && event->tag == 7 && event->outcome.failed() && event->outcome.code() == ONCEFLIGHT_E_CLOSED);
    lead.complete(0, "nobody waits any more");
}

void a_destroyed_table_lets_its_followers_go()
{
    auto table = std::make_unique<Table>();
    Lead lead = std::move(table->begin("key").lead());
    std::int32_t code = 0;
    std::thread follower([&code, raw = table->get()] {
        onceflight_lead none = 0;
        onceflight_response *response = nullptr;
        const Request request("key");
        const auto terms = request.raw();
        code = onceflight_begin_request(raw, &terms, &none, &response);
    });
    await_waiting(*table, 1);
    table.reset();
    follower.join();
    EXPECT(ONCEFLIGHT_E_CLOSED, code);
}

void requests_carry_their_terms()
{
    Table table(Options().on_lease_expired(OnLeaseExpired::hold));
    Request request("key");
    request.fingerprint = "one";
    request.lease = 1ms;
    Lead late = std::move(table.begin(request).lead());
    Request other("key");
    other.fingerprint = "";
    other.timeout = 0ms;
    EXPECT(ONCEFLIGHT_E_MISMATCH, thrown([&] { (void)table.begin(other); }));
    EXPECT(ONCEFLIGHT_E_UNKNOWN, thrown([&] { (void)table.begin(request); }));
    request.recover = true;
    request.ttl = 1h;
    table.begin(request).lead().complete(0, "recovered");
    CHECK(table.begin(request).replayed());
    // Keys are bytes, from whatever holds them.
    const std::string binary("\xff\0\x01", 3);
    CHECK(table.begin(binary).leads() && table.begin(std::string_view(binary).substr(1)).leads());
    CHECK(table.begin(std::string_view()).leads());
}

void run_does_the_work_once()
{
    constexpr int callers = 8;
    Table table;
    std::atomic<int> ran{0}, led{0}, shared{0};
    std::array<std::thread, callers> threads;
    for (auto &thread : threads) {
        thread = std::thread([&] {
            const auto answer = table.run("key", [&] {
                ++ran;
                // The work takes until everybody else waits for it.
                await_waiting(table, callers - 1);
                return Body{201, "made"};
            });
            if (answer.status() == 201 && answer.body() == "made")
                ++(answer.role() == Role::led ? led : shared);
        });
    }
    for (auto &thread : threads)
        thread.join();
    CHECK(ran == 1 && led == 1 && shared == callers - 1);
    CHECK(table.stats().in_flight == 0);
}

void run_replays_within_the_window()
{
    Table table(Options().completed_ttl(1h));
    const auto first = table.run("key", [] { return std::string("body"); });
    const auto second = table.run("key", [] { return "never made"; });
    CHECK(first.role() == Role::led && first.status() == 0 && first.body() == "body");
    CHECK(second.role() == Role::replayed && second.body() == "body");
}

void an_exception_abandons_and_goes_on()
{
    Table table;
    std::string caught;
    std::optional<Answer> answer;
    std::thread follower;
    try {
        (void)table.run("key", [&]() -> std::string {
            follower = std::thread([&] { answer.emplace(table.run("key", [] { return "successor"; })); });
            await_waiting(table, 1);
            throw std::runtime_error("the work failed");
        });
    } catch (const std::runtime_error &error) {
        caught = error.what();
    }
    follower.join();
    CHECK(caught == "the work failed");
    CHECK(answer && answer->role() == Role::led && answer->body() == "successor");
    CHECK(table.stats().in_flight == 0);
}

void run_of_its_own_key_is_told()
{
    Table table;
    EXPECT(ONCEFLIGHT_E_WOULD_DEADLOCK, thrown([&] {
               (void)table.run("key", [&] { return std::string(table.run("key", [] { return "x"; }).body()); });
           }));
    CHECK(table.run("key", [] { return "free again"; }).body() == "free again");
}

void work_that_cannot_be_shared_is_still_its_callers()
{
    Table table(Options().max_response_len(4).completed_ttl(1h));
    std::optional<Answer> bypassed;
    std::thread follower;
    const auto large = table.run("key", [&] {
        follower = std::thread([&] { bypassed.emplace(table.run("key", [] { return "own"; })); });
        await_waiting(table, 1);
        return "too large";
    });
    follower.join();
    CHECK(large.role() == Role::led && large.body() == "too large");
    CHECK(bypassed && bypassed->role() == Role::bypassed && bypassed->body() == "own");

    Table leased(Options().lease(1ms));
    const auto overtaken = leased.run("key", [&] {
        std::thread([&] { leased.begin("key").lead().complete(0, "x"); }).join();
        return "late";
    });
    CHECK(overtaken.role() == Role::overtaken && overtaken.body() == "late");
}

void a_queue_brings_events()
{
    Table table;
    Queue queue(table);
    auto leader = queue.begin("key", 1);
    CHECK(leader.leads() && queue.begin("key", 2).pending() && queue.begin("key", 3).pending());
    CHECK(!queue.next());
    queue.leave(3);
    leader.lead().cancel();
    pollfd entry{queue.fd(), POLLIN, 0};
    REQUIRE(poll(&entry, 1, HANG_SECONDS * 1000) == 1);
    {
        auto event = queue.next();
        CHECK(event && event->tag == 2 && event->outcome.leads() && event->outcome.lead().details().attempt == 2);
        CHECK(queue.begin("key", 4).pending());
        // The event goes, and its lead with it: abandoned, so the next in line leads.
    }
    auto event = queue.next(forever);
    CHECK(event && event->tag == 4 && event->outcome.leads());
    CHECK(queue.begin("key", 5).pending());
    event->outcome.lead().complete(9, "body");
    const auto shared = queue.next(forever);
    CHECK(shared && shared->tag == 5 && shared->outcome.shared() && shared->outcome.response().body() == "body");
    Request brief("other");
    brief.timeout = 1ms;
    auto held = queue.begin("other", 6);
    CHECK(held.leads() && queue.begin(brief, 7).pending());
    const auto late = queue.next(forever);
    CHECK(late && late->tag == 7 && late->outcome.failed() && late->outcome.code() == ONCEFLIGHT_E_TIMEOUT);
}

void errors_tell_what_happened()
{
    EXPECT(ONCEFLIGHT_E_INVALID, thrown([] { (void)Table::open("no such store"); }));
    const auto nowhere = thrown([] { (void)Table::open("redis://localhost:1", Options()); });
    CHECK(nowhere == ONCEFLIGHT_E_STORE || nowhere == ONCEFLIGHT_E_UNSUPPORTED); // as the library was built
    CHECK(Table::open("memory:", Options().max_in_flight(1)).begin("key").leads());
    Table table(Options().max_in_flight(1).on_cancel(OnCancel::fail_all).heartbeat(false).max_lead(1s).offer(1s));
    auto lead = table.begin("one");
    EXPECT(ONCEFLIGHT_E_OVERLOADED, thrown([&] { (void)table.begin("two"); }));
    table.close();
    EXPECT(ONCEFLIGHT_E_CLOSED, thrown([&] { (void)table.run("two", [] { return "x"; }); }));
}

void keys_and_fingerprints()
{
    const auto key = request_key("GET", "/", {"accept: text/plain", "cookie: a"}, "body");
    CHECK(key.size() == 16 && key == request_key("GET", "/", {"accept: text/plain", "cookie: a"}, "body"));
    CHECK(key != request_key("GET", "/", {"accept: text/plain"}, "body"));
    CHECK(fingerprint({"ab", "c"}) != fingerprint({"a", "bc"}) && fingerprint({}).size() == 16);
}

void a_table_can_be_moved()
{
    Table table;
    auto lead = table.begin("key");
    Table moved = std::move(table);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, thrown([&] { (void)moved.begin(at_once("key")); }));
    moved = Table();
    CHECK(moved.begin("key").leads());
}

} // namespace

int main()
{
    RUN(a_lead_that_is_dropped_abandons);
    RUN(a_lead_settles_once_and_then_is_empty);
    RUN(a_moved_lead_leaves_nothing_behind);
    RUN(every_settlement_reaches_a_follower);
    RUN(leases_and_checkpoints);
    RUN(a_response_counts_its_references);
    RUN(leads_and_queues_may_outlive_their_table);
    RUN(a_destroyed_table_lets_its_followers_go);
    RUN(requests_carry_their_terms);
    RUN(run_does_the_work_once);
    RUN(run_replays_within_the_window);
    RUN(an_exception_abandons_and_goes_on);
    RUN(run_of_its_own_key_is_told);
    RUN(work_that_cannot_be_shared_is_still_its_callers);
    RUN(a_queue_brings_events);
    RUN(errors_tell_what_happened);
    RUN(keys_and_fingerprints);
    RUN(a_table_can_be_moved);
    return check_done("raii");
}
