// durable_raii URL: the C++ layer over memory and every store. What the library itself does is tested in C.
#include <csignal>
#include <functional>
#include <string>
#include <thread>

#include <sys/resource.h>
#include <unistd.h>

#include "../c/check.h"
#include "onceflight.hpp"

namespace {

using namespace onceflight;
using namespace std::chrono_literals;

std::string url;

// A key that no run has had.
std::string new_key()
{
    static int number = 0;
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    return "durable-cpp-" + std::to_string(getpid()) + "-" + std::to_string(now) + "-" + std::to_string(++number);
}

Table opened()
{
    return Table::open(url, Options().completed_ttl(1h).lease(1h).heartbeat(false));
}

bool in_memory()
{
    return url == "memory:";
}

std::int32_t thrown(const std::function<void()> &call)
{
    try {
        call();
    } catch (const Error &error) {
        return error.code();
    }
    return 0;
}

void run_does_the_work_once()
{
    const auto table = opened();
    const auto key = new_key();
    std::optional<Answer> shared;
    std::thread follower;
    const auto led = table.run(key, [&] {
        follower = std::thread([&] { shared.emplace(table.run(key, [] { return "never made"; })); });
        while (table.stats().waiting != 1)
            std::this_thread::yield();
        return Body{201, "made"};
    });
    follower.join();
    CHECK(led.role() == Role::led && led.status() == 201 && led.body() == "made");
    CHECK(shared && shared->role() == Role::shared && shared->status() == 201 && shared->body() == "made");
    const auto replayed = table.run(key, [] { return "never made"; });
    CHECK(replayed.role() == Role::replayed && replayed.status() == 201 && replayed.body() == "made");
    if (!in_memory()) {
        const auto elsewhere = opened().run(key, [] { return "never made"; });
        CHECK(elsewhere.role() == Role::replayed && elsewhere.body() == "made");
    }
}

void a_successor_has_the_checkpoint()
{
    const auto table = opened();
    const auto key = new_key();
    std::uint64_t fence = 0;
    {
        auto first = table.begin(key);
        first.lead().checkpoint("half done");
        const auto details = first.lead().details();
        CHECK(details.attempt == 1 && details.checkpoint.body() == "half done");
        fence = details.fence;
        // Dropped, it abandons.
    }
    auto second = table.begin(key);
    const auto details = second.lead().details();
    CHECK(details.attempt == 2 && details.fence > fence && details.checkpoint.body() == "half done");
    second.lead().complete(0, "done");
    EXPECT(ONCEFLIGHT_E_STALE, thrown([&] { second.lead().complete(0, "again"); }));
}

void an_exception_abandons_and_goes_on()
{
    const auto table = opened();
    const auto key = new_key();
    std::string caught;
    try {
        (void)table.run(key, []() -> std::string { throw std::runtime_error("the work failed"); });
    } catch (const std::runtime_error &error) {
        caught = error.what();
    }
    CHECK(caught == "the work failed" && table.begin(key).lead().details().attempt == 2);
}

void a_queue_brings_events()
{
    const auto table = opened();
    const Queue queue(table);
    const auto key = new_key();
    auto lead = std::move(table.begin(key).lead());
    CHECK(queue.begin(key, 7).pending());
    lead.complete(3, "body");
    const auto event = queue.next(forever);
    CHECK(event && event->tag == 7 && event->outcome.response().status() == 3 && event->outcome.response().body() == "body");
}

// Writes fail while files may have no more than a byte.
void work_that_the_store_does_not_take_is_still_its_callers()
{
    const auto table = Table::open(url, Options().store_timeout(50ms));
    rlimit before{}, none{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    none = before;
    none.rlim_cur = 1;
    const auto unignored = std::signal(SIGXFSZ, SIG_IGN);
    {
        const auto answer = table.run(new_key(), [&] {
            REQUIRE(setrlimit(RLIMIT_FSIZE, &none) == 0);
            return Body{5, "made"};
        });
        CHECK(answer.role() == Role::unrecorded && answer.status() == 5 && answer.body() == "made");
        EXPECT(ONCEFLIGHT_E_STORE, thrown([&] { (void)table.begin(new_key()); }));
    }
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    std::signal(SIGXFSZ, unignored);
    CHECK(table.run(new_key(), [] { return "x"; }).role() == Role::led);
}

void statements_are_text()
{
    CHECK(sql(url, "complete").find("UPDATE") != std::string::npos);
    EXPECT(ONCEFLIGHT_E_INVALID, thrown([] { (void)sql(url, "no such statement"); }));
    EXPECT(ONCEFLIGHT_E_UNSUPPORTED, thrown([] { (void)sql("memory:", "complete"); }));
}

} // namespace

int main(int argc, char **argv)
{
    REQUIRE(argc == 2);
    url = argv[1];
    RUN(run_does_the_work_once);
    RUN(a_successor_has_the_checkpoint);
    RUN(an_exception_abandons_and_goes_on);
    RUN(a_queue_brings_events);
    const auto sqlite = url.rfind("sqlite:", 0) == 0;
    if (sqlite)
        RUN(work_that_the_store_does_not_take_is_still_its_callers);
    if (sqlite || url.rfind("postgres:", 0) == 0)
        RUN(statements_are_text);
    return check_done("durable_raii");
}
