// onceflight for C++17: owners over onceflight.h, header only.
//
//     onceflight::Table table(onceflight::Options().completed_ttl(500ms));
//     auto answer = table.run("key", [] { return fetch(); });   // at most one caller of "key" fetches
//     use(answer.body());
//
// Everything that can be lost is owned: a Lead that is destroyed unsettled abandons its flight, a Response counts its
// references, a Table that is destroyed closes. They may be destroyed in any order. A Table, a Queue, Sessions and a
// Response may be used by many threads at once; a Lead by one at a time. Failures are thrown as onceflight::Error. After
// fork, the child's inherited objects throw ONCEFLIGHT_E_FORKED.
#ifndef ONCEFLIGHT_HPP
#define ONCEFLIGHT_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "onceflight.h"

namespace onceflight {

using std::chrono::milliseconds;

/// No deadline, no lease, no expiry.
inline constexpr milliseconds forever = milliseconds::max();

/// A failure: its code is one of ONCEFLIGHT_E_*, its text the detail this thread was given.
class Error : public std::runtime_error {
public:
    Error(std::int32_t code, const std::string &detail) : std::runtime_error(detail), code_(code) {}

    [[nodiscard]] std::int32_t code() const noexcept { return code_; }
    [[nodiscard]] const char *name() const noexcept { return onceflight_err_name(code_); }

private:
    std::int32_t code_;
};

namespace detail {

inline std::string last_error(std::int32_t code)
{
    std::size_t size = 0;
    onceflight_last_error(nullptr, &size);
    std::string text(size, '\0');
    if (size <= 1 || onceflight_last_error(text.data(), &size) != ONCEFLIGHT_OK)
        return onceflight_strerror(code);
    text.resize(size - 1);
    return text;
}

/// Passes outcomes on and throws errors.
inline std::int32_t check(std::int32_t code)
{
    if (code < 0)
        throw Error(code, last_error(code));
    return code;
}

inline const std::uint8_t *bytes(std::string_view view) noexcept
{
    return reinterpret_cast<const std::uint8_t *>(view.data());
}

inline std::vector<onceflight_slice> slices(const std::vector<std::string_view> &views)
{
    std::vector<onceflight_slice> slices;
    slices.reserve(views.size());
    for (const auto view : views)
        slices.push_back({bytes(view), view.size()});
    return slices;
}

/// Nothing, for NULL.
inline std::optional<std::string_view> view(const onceflight_slice &slice) noexcept
{
    if (slice.data == nullptr)
        return std::nullopt;
    return std::string_view(reinterpret_cast<const char *>(slice.data), slice.len);
}

inline std::uint64_t count(milliseconds duration) noexcept
{
    if (duration == forever)
        return ONCEFLIGHT_FOREVER;
    return duration.count() < 0 ? 0 : static_cast<std::uint64_t>(duration.count());
}

inline std::uint64_t count(const std::optional<milliseconds> &duration) noexcept
{
    return duration ? count(*duration) : ONCEFLIGHT_DEFAULT;
}

template <auto Free>
struct Deleter {
    template <typename T>
    void operator()(T *handle) const noexcept
    {
        Free(handle);
    }
};

} // namespace detail

/// What to do with the followers of a leader that cancels.
enum class OnCancel : std::uint64_t { promote = ONCEFLIGHT_PROMOTE, fail_all = ONCEFLIGHT_FAIL_ALL };

/// What to do about a flight whose leader was lost.
enum class OnLeaseExpired : std::uint64_t { take_over = ONCEFLIGHT_TAKE_OVER, hold = ONCEFLIGHT_HOLD };

/// The settings of a table; each that isn't set has the default onceflight.h tells.
class Options {
public:
    Options() : handle_(onceflight_options_new())
    {
        if (!handle_)
            throw std::bad_alloc();
    }

    Options &completed_ttl(milliseconds ttl) { return set(onceflight_options_set_completed_ttl_ms, detail::count(ttl)); }
    Options &lease(milliseconds lease) { return set(onceflight_options_set_lease_ms, detail::count(lease)); }
    Options &heartbeat(bool on) { return set(onceflight_options_set_heartbeat, on ? 1 : 0); }
    Options &max_lead(milliseconds time) { return set(onceflight_options_set_max_lead_ms, detail::count(time)); }
    Options &store_timeout(milliseconds time) { return set(onceflight_options_set_store_timeout_ms, detail::count(time)); }
    Options &offer(milliseconds time) { return set(onceflight_options_set_offer_ms, detail::count(time)); }
    Options &max_in_flight(std::uint64_t keys) { return set(onceflight_options_set_max_in_flight, keys); }
    Options &max_waiters(std::uint64_t waiters) { return set(onceflight_options_set_max_waiters, waiters); }
    Options &max_completed(std::uint64_t entries) { return set(onceflight_options_set_max_completed, entries); }
    Options &max_completed_bytes(std::uint64_t bytes) { return set(onceflight_options_set_max_completed_bytes, bytes); }
    Options &max_key_len(std::uint64_t bytes) { return set(onceflight_options_set_max_key_len, bytes); }
    Options &max_response_len(std::uint64_t bytes) { return set(onceflight_options_set_max_response_len, bytes); }
    Options &on_cancel(OnCancel policy) { return set(onceflight_options_set_on_cancel, static_cast<std::uint64_t>(policy)); }
    Options &on_lease_expired(OnLeaseExpired policy)
    {
        return set(onceflight_options_set_on_lease_expired, static_cast<std::uint64_t>(policy));
    }

    [[nodiscard]] const onceflight_options *get() const noexcept { return handle_.get(); }

private:
    Options &set(std::int32_t (*setter)(onceflight_options *, std::uint64_t), std::uint64_t value)
    {
        detail::check(setter(handle_.get(), value));
        return *this;
    }

    std::unique_ptr<onceflight_options, detail::Deleter<onceflight_options_free>> handle_;
};

/// A response: one immutable value shared by all that hold it. A copy is another reference.
class Response {
public:
    Response() noexcept = default;
    /// Takes the reference over that a C call gave.
    explicit Response(onceflight_response *owned) noexcept : handle_(owned) {}
    Response(const Response &other) : handle_(onceflight_response_retain(other.get())) {}
    Response(Response &&) noexcept = default;
    Response &operator=(Response other) noexcept
    {
        handle_ = std::move(other.handle_);
        return *this;
    }
    ~Response() = default;

    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }
    [[nodiscard]] std::int32_t status() const noexcept { return onceflight_response_status(get()); }
    /// Valid for as long as a reference to this response is held.
    [[nodiscard]] std::string_view body() const noexcept
    {
        return {reinterpret_cast<const char *>(onceflight_response_data(get())), onceflight_response_len(get())};
    }
    [[nodiscard]] const onceflight_response *get() const noexcept { return handle_.get(); }

private:
    std::unique_ptr<onceflight_response, detail::Deleter<onceflight_response_free>> handle_;
};

/// A key and the terms it is begun under. The views must outlive the call they are passed to, no longer.
struct Request {
    template <typename Key, typename = std::enable_if_t<std::is_convertible_v<const Key &, std::string_view>>>
    Request(const Key &bytes) : key(bytes) // a key alone is a request
    {
    }

    std::string_view key;
    std::optional<std::string_view> fingerprint; ///< says "the same payload"
    milliseconds timeout = forever;
    std::optional<milliseconds> lease; ///< the table's own, if absent
    std::optional<milliseconds> ttl;   ///< the table's own, if absent
    bool same_thread = false;          ///< the lead is settled by this thread: deadlocks are found
    bool recover = false;              ///< may lead although an earlier attempt's outcome is unknown

    [[nodiscard]] onceflight_request raw() const noexcept
    {
        onceflight_request raw = ONCEFLIGHT_REQUEST_INIT;
        raw.key = detail::bytes(key);
        raw.key_len = key.size();
        if (fingerprint) {
            // Absent is NULL, so an empty view that has no pointer gets one.
            raw.fingerprint = detail::bytes(fingerprint->data() == nullptr ? std::string_view("") : *fingerprint);
            raw.fingerprint_len = fingerprint->size();
        }
        raw.timeout_ms = detail::count(timeout);
        raw.lease_ms = detail::count(lease);
        raw.ttl_ms = detail::count(ttl);
        raw.flags = (same_thread ? std::uint32_t{ONCEFLIGHT_SAME_THREAD} : 0U) |
                    (recover ? std::uint32_t{ONCEFLIGHT_RECOVER} : 0U);
        return raw;
    }
};

/// The right to settle a flight. Destroyed unsettled, it abandons: the work may have happened.
class Lead {
public:
    Lead() noexcept = default;
    Lead(Lead &&other) noexcept : table_(std::move(other.table_)), id_(std::exchange(other.id_, 0)) {}
    Lead &operator=(Lead &&other) noexcept
    {
        Lead taken(std::move(other));
        std::swap(table_, taken.table_);
        std::swap(id_, taken.id_);
        return *this;
    }
    ~Lead()
    {
        if (id_ != 0)
            onceflight_abandon(table_.get(), id_);
    }

    /// Whether there is a flight to settle still.
    [[nodiscard]] explicit operator bool() const noexcept { return id_ != 0; }
    [[nodiscard]] onceflight_lead id() const noexcept { return id_; }

    /// Gives the response to every follower and keeps it for the table's window. Refused as too large, the lead stays live.
    void complete(std::int32_t status, std::string_view body)
    {
        settled(onceflight_complete(table_.get(), id_, status, detail::bytes(body), body.size()));
    }
    /// The same with a window of its own; 0 keeps nothing.
    void complete_for(std::int32_t status, std::string_view body, milliseconds ttl)
    {
        settled(onceflight_complete_for(table_.get(), id_, status, detail::bytes(body), body.size(), detail::count(ttl)));
    }
    /// Nothing happened: the first follower in line leads.
    void cancel() { settled(onceflight_cancel(table_.get(), id_)); }
    /// Nothing happened, and whoever waits in this process has this response, which isn't kept.
    void cancel_with(std::int32_t status, std::string_view body)
    {
        settled(onceflight_cancel_with(table_.get(), id_, status, detail::bytes(body), body.size()));
    }
    /// It may have happened.
    void abandon() { settled(onceflight_abandon(table_.get(), id_)); }
    /// It may have happened, and whoever waits in this process has this response, which isn't kept.
    void abandon_with(std::int32_t status, std::string_view body)
    {
        settled(onceflight_abandon_with(table_.get(), id_, status, detail::bytes(body), body.size()));
    }
    /// Not to be shared: every follower does its own work.
    void decline() { settled(onceflight_decline(table_.get(), id_)); }

    void renew(milliseconds lease) { detail::check(onceflight_renew(table_.get(), id_, detail::count(lease))); }
    void checkpoint(std::string_view bytes)
    {
        detail::check(onceflight_checkpoint(table_.get(), id_, detail::bytes(bytes), bytes.size()));
    }

    struct Details {
        std::uint64_t fence;   ///< grows with every leader of the key
        std::uint32_t attempt; ///< 1 for the first leader of a flight
        Response checkpoint;   ///< empty if there is none
    };
    [[nodiscard]] Details details() const
    {
        onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
        detail::check(onceflight_lead_details(table_.get(), id_, &info));
        return {info.fence, info.attempt, Response(info.checkpoint)};
    }

private:
    friend class Table;
    friend class Queue;
    using Handle = std::shared_ptr<onceflight_table>;

    Lead(Handle table, onceflight_lead id) : table_(id == 0 ? nullptr : std::move(table)), id_(id) {}

    /// A lead that was settled, or overtaken, has nothing left to abandon.
    void settled(std::int32_t code)
    {
        if (code == ONCEFLIGHT_OK || code == ONCEFLIGHT_E_STALE)
            id_ = 0;
        detail::check(code);
    }

    Handle table_;
    onceflight_lead id_ = 0;
};

/// What a begin led to, or how a wait ended.
class Outcome {
public:
    [[nodiscard]] bool leads() const noexcept { return code_ == ONCEFLIGHT_LEAD; }
    [[nodiscard]] bool shared() const noexcept { return code_ == ONCEFLIGHT_SHARED; }
    [[nodiscard]] bool replayed() const noexcept { return code_ == ONCEFLIGHT_REPLAYED; }
    [[nodiscard]] bool pending() const noexcept { return code_ == ONCEFLIGHT_PENDING; }
    [[nodiscard]] bool bypassed() const noexcept { return code_ == ONCEFLIGHT_BYPASS; }
    /// Only an event's outcome can be a failure; a begin throws.
    [[nodiscard]] bool failed() const noexcept { return code_ < 0; }
    /// ONCEFLIGHT_LEAD and so on, or ONCEFLIGHT_E_*.
    [[nodiscard]] std::int32_t code() const noexcept { return code_; }

    /// Empty unless this leads. Move it out to keep it.
    [[nodiscard]] Lead &lead() noexcept { return lead_; }
    /// Empty unless shared or replayed.
    [[nodiscard]] const Response &response() const noexcept { return response_; }

private:
    friend class Table;
    friend class Queue;
    friend struct Event;

    Outcome(std::int32_t code, Lead lead, onceflight_response *response)
        : code_(code), lead_(std::move(lead)), response_(response)
    {
    }

    std::int32_t code_;
    Lead lead_;
    Response response_;
};

/// What the work of a run makes: a status of the program's own, and bytes.
struct Body {
    std::int32_t status = 0;
    std::string data;
};

/// How a caller of run came by its answer.
enum class Role {
    led,        ///< it did the work, and the followers have its body
    shared,     ///< it waited for the leader's
    replayed,   ///< it was completed earlier
    bypassed,   ///< the leader declined, so it did its own work
    overtaken,  ///< it did the work, but another leader had taken over: the followers have that one's body
    unrecorded, ///< it did the work, but the store didn't take it: whoever comes next may do it again
};

/// What a run returns: the caller's own body if it did the work, else the one shared response.
class Answer {
public:
    [[nodiscard]] Role role() const noexcept { return role_; }
    [[nodiscard]] std::int32_t status() const noexcept
    {
        const auto *own = std::get_if<Body>(&value_);
        return own ? own->status : std::get<Response>(value_).status();
    }
    [[nodiscard]] std::string_view body() const noexcept
    {
        const auto *own = std::get_if<Body>(&value_);
        return own ? std::string_view(own->data) : std::get<Response>(value_).body();
    }

private:
    friend class Table;
    friend class Sessions;
    Answer(Role role, std::variant<Body, Response> value) : role_(role), value_(std::move(value)) {}

    Role role_;
    std::variant<Body, Response> value_;
};

/// For each key at most one caller does the work, and every other caller with that key gets that one outcome.
class Table {
public:
    /// In memory.
    Table() : Table(created(nullptr)) {}
    explicit Table(const Options &options) : Table(created(options.get())) {}

    /// Over the store a URL names: "memory:", "sqlite:PATH" and so on.
    [[nodiscard]] static Table open(const std::string &url) { return Table(opened(url, nullptr)); }
    [[nodiscard]] static Table open(const std::string &url, const Options &options)
    {
        return Table(opened(url, options.get()));
    }

    Table(Table &&) noexcept = default;
    Table &operator=(Table &&other) noexcept
    {
        Table taken(std::move(other));
        std::swap(handle_, taken.handle_);
        return *this;
    }
    /// Closes: everybody who waits gets ONCEFLIGHT_E_CLOSED. Leads that live on can still settle.
    ~Table()
    {
        if (handle_)
            onceflight_table_close(handle_.get());
    }

    /// Leads, waits for who does, or replays.
    [[nodiscard]] Outcome begin(const Request &request) const
    {
        onceflight_lead lead = 0;
        onceflight_response *response = nullptr;
        const onceflight_request raw = request.raw();
        const auto code = detail::check(onceflight_begin_request(handle_.get(), &raw, &lead, &response));
        return {code, Lead(handle_, lead), response};
    }

    /// Does the work unless somebody else does: `work()` returns a Body, or its bytes alone. An exception of it abandons the
    /// flight and is passed on. Work that was overtaken, is too large to share or wasn't taken by the store, is still its
    /// caller's answer.
    template <typename Work>
    [[nodiscard]] Answer run(Request request, Work &&work) const
    {
        request.same_thread = true;
        Outcome outcome = begin(request);
        if (outcome.shared())
            return {Role::shared, outcome.response()};
        if (outcome.replayed())
            return {Role::replayed, outcome.response()};
        Body body = made(std::forward<Work>(work)());
        if (outcome.bypassed())
            return {Role::bypassed, std::move(body)};
        const Role role = share(outcome.lead(), body);
        return {role, std::move(body)};
    }

    /// Drops a completed response; a flight goes on for those who wait already.
    void forget(std::string_view key) const
    {
        detail::check(onceflight_forget(handle_.get(), detail::bytes(key), key.size()));
    }

    void close() const { detail::check(onceflight_table_close(handle_.get())); }

    [[nodiscard]] onceflight_stats stats() const
    {
        onceflight_stats stats = ONCEFLIGHT_STATS_INIT;
        detail::check(onceflight_table_stats(handle_.get(), &stats));
        return stats;
    }

    [[nodiscard]] const onceflight_table *get() const noexcept { return handle_.get(); }

private:
    friend class Queue;
    friend class Sessions;
    // Shared with leads and queues, so that each may outlive the table.
    using Handle = Lead::Handle;

    explicit Table(onceflight_table *owned) : handle_(owned, onceflight_table_free) {}

    static onceflight_table *created(const onceflight_options *options)
    {
        onceflight_table *table = nullptr;
        detail::check(onceflight_table_new(options, &table));
        return table;
    }

    static onceflight_table *opened(const std::string &url, const onceflight_options *options)
    {
        onceflight_table *table = nullptr;
        detail::check(onceflight_table_open(url.c_str(), options, &table));
        return table;
    }

    static Body made(Body body) { return body; }
    static Body made(std::string data) { return {0, std::move(data)}; }

    static Role share(Lead &lead, const Body &body)
    {
        try {
            try {
                lead.complete(body.status, body.data);
            } catch (const Error &error) {
                if (error.code() != ONCEFLIGHT_E_TOO_LARGE)
                    throw;
                lead.decline(); // followers do their own work instead of waiting for this again
            }
            return Role::led;
        } catch (const Error &error) {
            if (error.code() == ONCEFLIGHT_E_STALE)
                return Role::overtaken;
            if (error.code() == ONCEFLIGHT_E_STORE)
                return Role::unrecorded;
            throw;
        }
    }

    Handle handle_;
};

/// How a wait that was begun on a queue ended.
struct Event {
    std::uint64_t tag;
    Outcome outcome;
};

/// Waits without blocking: outcomes arrive here, and fd() polls readable while one is there to read.
class Queue {
public:
    explicit Queue(const Table &table) : table_(table.handle_)
    {
        onceflight_queue *queue = nullptr;
        detail::check(onceflight_queue_new(&queue));
        handle_.reset(queue);
    }

    /// As Table::begin, but where that would wait this returns a pending outcome, and an event follows. Over a store, always.
    [[nodiscard]] Outcome begin(const Request &request, std::uint64_t tag) const
    {
        onceflight_lead lead = 0;
        onceflight_response *response = nullptr;
        const onceflight_request raw = request.raw();
        const auto code =
            detail::check(onceflight_begin_async(table_.get(), &raw, handle_.get(), tag, &lead, &response));
        return {code, Lead(table_, lead), response};
    }

    /// The next event, or nothing if none comes in time.
    [[nodiscard]] std::optional<Event> next(milliseconds timeout = milliseconds(0)) const
    {
        onceflight_event event = ONCEFLIGHT_EVENT_INIT;
        const auto code = onceflight_queue_next(handle_.get(), detail::count(timeout), &event);
        if (code == ONCEFLIGHT_E_TIMEOUT)
            return std::nullopt;
        detail::check(code);
        return Event{event.tag, Outcome(event.outcome, Lead(table_, event.lead), event.response)};
    }

    /// Stops waiting: no event of this tag will come.
    void leave(std::uint64_t tag) const { detail::check(onceflight_queue_leave(handle_.get(), tag)); }

    [[nodiscard]] int fd() const noexcept { return onceflight_queue_fd(handle_.get()); }
    [[nodiscard]] const onceflight_queue *get() const noexcept { return handle_.get(); }

private:
    std::shared_ptr<onceflight_table> table_;
    std::unique_ptr<onceflight_queue, detail::Deleter<onceflight_queue_free>> handle_;
};

/// What bounds a table of sessions; each that isn't set has the default onceflight.h tells. Every replica needs the same.
class SessionLimits {
public:
    SessionLimits &max_sessions(std::uint32_t sessions) { return set(&onceflight_session_limits::max_sessions, sessions); }
    SessionLimits &window(std::uint32_t requests) { return set(&onceflight_session_limits::window, requests); }
    SessionLimits &timeout(milliseconds time) { return set(&onceflight_session_limits::timeout_ms, detail::count(time)); }
    SessionLimits &max_response_len(std::uint64_t bytes) { return set(&onceflight_session_limits::max_response_len, bytes); }
    SessionLimits &max_session_bytes(std::uint64_t bytes) { return set(&onceflight_session_limits::max_session_bytes, bytes); }
    SessionLimits &max_bytes(std::uint64_t bytes) { return set(&onceflight_session_limits::max_bytes, bytes); }

    [[nodiscard]] const onceflight_session_limits *get() const noexcept { return &raw_; }

private:
    SessionLimits &set(std::uint64_t onceflight_session_limits::*limit, std::uint64_t value) noexcept
    {
        raw_.*limit = value;
        return *this;
    }

    onceflight_session_limits raw_ = ONCEFLIGHT_SESSION_LIMITS_INIT;
};

/// A client's request, as the log has it. The views must outlive the call they are passed to, no longer.
struct SessionRequest {
    std::string_view client;
    std::uint64_t incarnation = 0; ///< as its registration gave it; 0: it doesn't register, its request number 1 does
    std::uint64_t seq = 0;         ///< its number, from 1 on
    std::uint64_t ack = 0;         ///< the lowest number that the client has no reply of; 0 says nothing
    std::string_view digest = {};  ///< 16 bytes that say "the same payload", such as a fingerprint; empty: none
};

/// The sessions of a replicated state machine: what was executed, and what was said to it. Changed by the log alone, whose
/// time is `now`; every replica that applies the same log has the same.
class Sessions {
public:
    explicit Sessions(const SessionLimits &limits = {}) : Sessions(made(limits)) {}
    /// The table that a snapshot was made of.
    [[nodiscard]] static Sessions restore(std::string_view bytes)
    {
        onceflight_sessions *sessions = nullptr;
        detail::check(onceflight_sessions_restore(detail::bytes(bytes), bytes.size(), &sessions));
        return Sessions(sessions);
    }

    /// A session for this client, and its incarnation. Another nonce, to be drawn at random, is another life of the client.
    std::uint64_t register_client(std::string_view client, std::string_view nonce, milliseconds now)
    {
        std::uint64_t incarnation = 0;
        detail::check(onceflight_sessions_register(get(), detail::bytes(client), client.size(), detail::bytes(nonce),
                                                   nonce.size(), detail::count(now), &incarnation));
        return incarnation;
    }

    /// Executes a request unless it was: `work()` returns a Body, or its bytes alone. An exception of it is passed on and
    /// leaves the entry open: record what it came to, or give the table up.
    template <typename Work>
    Answer apply(const SessionRequest &request, milliseconds now, Work &&work)
    {
        if (auto replayed = begin(request, now))
            return {Role::replayed, std::move(*replayed)};
        Body body = Table::made(std::forward<Work>(work)());
        record(request, body.status, body.data);
        return {Role::led, std::move(body)};
    }

    /// What was said to a request; or nothing, and then it is to be executed now, and recorded.
    [[nodiscard]] std::optional<Response> begin(const SessionRequest &request, milliseconds now)
    {
        if (!request.digest.empty() && request.digest.size() != 16)
            throw Error(ONCEFLIGHT_E_INVALID, "a digest has 16 bytes");
        onceflight_response *response = nullptr;
        const auto code = detail::check(onceflight_sessions_begin(
            get(), detail::bytes(request.client), request.client.size(), request.incarnation, request.seq, request.ack,
            request.digest.empty() ? nullptr : detail::bytes(request.digest), detail::count(now), &response));
        return replayed(code, response);
    }

    /// What the request that was begun came to. Too large to be kept, that it was executed is remembered.
    void record(const SessionRequest &request, std::int32_t status, std::string_view body)
    {
        detail::check(onceflight_sessions_record(get(), detail::bytes(request.client), request.client.size(),
                                                 request.incarnation, request.seq, status, detail::bytes(body),
                                                 body.size()));
    }

    /// What was said to a request, if it was executed here; changes nothing.
    [[nodiscard]] std::optional<Response> peek(std::string_view client, std::uint64_t incarnation, std::uint64_t seq) const
    {
        onceflight_response *response = nullptr;
        const auto code = detail::check(onceflight_sessions_peek(get(), detail::bytes(client), client.size(), incarnation,
                                                                 seq, &response));
        return replayed(code, response);
    }

    void keep_alive(std::string_view client, std::uint64_t incarnation, milliseconds now)
    {
        detail::check(onceflight_sessions_keep_alive(get(), detail::bytes(client), client.size(), incarnation,
                                                     detail::count(now)));
    }

    /// Ends a client's session.
    void unregister(std::string_view client)
    {
        detail::check(onceflight_sessions_unregister(get(), detail::bytes(client), client.size()));
    }

    /// Ends the sessions whose timeout has passed by then; how many.
    std::uint64_t expire(milliseconds now)
    {
        std::uint64_t expired = 0;
        detail::check(onceflight_sessions_expire(get(), detail::count(now), &expired));
        return expired;
    }

    /// All of the table, as the body of a response. It belongs into one snapshot with the state.
    [[nodiscard]] Response snapshot() const
    {
        onceflight_response *bytes = nullptr;
        detail::check(onceflight_sessions_snapshot(get(), &bytes));
        return Response(bytes);
    }

    /// What has changed since the last save, for a database of the caller's own, in the transaction that changes the state:
    /// `put(client, row)` for each row, both optional views. No client: the table's own row. No row: delete the client's. If
    /// the transaction doesn't commit, the table is ahead of the database, and must be loaded from it again.
    template <typename Put>
    void save(Put &&put)
    {
        onceflight_rows *saved = nullptr;
        detail::check(onceflight_sessions_save(get(), &saved));
        const std::unique_ptr<onceflight_rows, detail::Deleter<onceflight_rows_free>> rows(saved);
        for (std::size_t index = 0; index < onceflight_rows_count(saved); ++index) {
            onceflight_slice client, row;
            detail::check(onceflight_rows_at(saved, index, &client, &row));
            put(detail::view(client), detail::view(row));
        }
    }

    /// The table that was saved: its own row, and those of all clients, in any order.
    [[nodiscard]] static Sessions load(std::string_view table, const std::vector<std::string_view> &rows)
    {
        onceflight_sessions *sessions = nullptr;
        const auto raw = detail::slices(rows);
        detail::check(
            onceflight_sessions_load(detail::bytes(table), table.size(), raw.data(), raw.size(), &sessions));
        return Sessions(sessions);
    }

    [[nodiscard]] onceflight_session_stats stats() const
    {
        onceflight_session_stats stats = ONCEFLIGHT_SESSION_STATS_INIT;
        detail::check(onceflight_sessions_stats(get(), &stats));
        return stats;
    }

    [[nodiscard]] onceflight_sessions *get() const noexcept { return handle_.get(); }

private:
    explicit Sessions(onceflight_sessions *owned) noexcept : handle_(owned) {}

    static onceflight_sessions *made(const SessionLimits &limits)
    {
        onceflight_sessions *sessions = nullptr;
        detail::check(onceflight_sessions_with_limits(limits.get(), &sessions));
        return sessions;
    }

    static std::optional<Response> replayed(std::int32_t code, onceflight_response *response)
    {
        if (code != ONCEFLIGHT_REPLAYED)
            return std::nullopt;
        return Response(response);
    }

    std::unique_ptr<onceflight_sessions, detail::Deleter<onceflight_sessions_free>> handle_;
};

namespace detail {

inline std::uint8_t *sixteen(std::string &out)
{
    out.assign(16, '\0');
    return reinterpret_cast<std::uint8_t *>(out.data());
}

} // namespace detail

/// 16 bytes that say "the same HTTP request"; each header is one "Name: value". Without a secret, of 16 bytes, one is drawn
/// at random for this process.
[[nodiscard]] inline std::string request_key(const std::string &method, const std::string &url,
                                             const std::vector<std::string_view> &headers = {},
                                             std::string_view body = {}, const std::uint8_t *secret = nullptr)
{
    std::string key;
    const auto raw = detail::slices(headers);
    detail::check(onceflight_request_key(method.c_str(), url.c_str(), raw.data(), raw.size(), detail::bytes(body),
                                         body.size(), secret, detail::sixteen(key)));
    return key;
}

/// 16 bytes that say "the same payload". Without a secret, of 16 bytes, a fixed one is used.
[[nodiscard]] inline std::string fingerprint(const std::vector<std::string_view> &fields,
                                             const std::uint8_t *secret = nullptr)
{
    std::string digest;
    const auto raw = detail::slices(fields);
    detail::check(onceflight_fingerprint(raw.data(), raw.size(), secret, detail::sixteen(digest)));
    return digest;
}

/// The text of a statement of a store in SQL, for a transaction of the caller's own: see onceflight_sql.
[[nodiscard]] inline std::string sql(const std::string &url, const std::string &statement)
{
    std::size_t size = 0;
    auto code = onceflight_sql(url.c_str(), statement.c_str(), nullptr, &size);
    std::string text(size, '\0');
    if (code == ONCEFLIGHT_E_BUFFER)
        code = onceflight_sql(url.c_str(), statement.c_str(), text.data(), &size);
    detail::check(code);
    text.resize(size - 1);
    return text;
}

} // namespace onceflight

#endif
