/* onceflight: makes identical requests run once.
 *
 * Generated from src/ffi by cbindgen: `make header`. Don't edit.
 *
 * Results are int32_t: 0 is ONCEFLIGHT_OK, positive is an outcome, negative an error, whose detail
 * onceflight_last_error tells on the same thread. Unless a function says otherwise:
 *  - it may be called from any thread at any time between the handle's making and its freeing;
 *  - pointers must be valid for the call, none is kept, and a NULL one is ONCEFLIGHT_E_NULL;
 *    NULL bytes of length 0 are empty;
 *  - out-parameters are set to 0 or NULL on entry, and only the outcome's own is filled;
 *  - times are in milliseconds; sizes are in bytes;
 *  - handles are freed in any order, NULL by doing nothing;
 *  - in the child of a fork, tables, queues and sessions of the parent are ONCEFLIGHT_E_FORKED: make new ones.
 * The library must not be unloaded (dlclose) once a table was made: it has threads of its own. */

#ifndef ONCEFLIGHT_H
#define ONCEFLIGHT_H

#include <stddef.h>
#include <stdint.h>

/* What a struct starts as. */
#define ONCEFLIGHT_REQUEST_INIT \
    { sizeof(onceflight_request), NULL, 0, NULL, 0, ONCEFLIGHT_FOREVER, ONCEFLIGHT_DEFAULT, ONCEFLIGHT_DEFAULT, 0 }
#define ONCEFLIGHT_EVENT_INIT { sizeof(onceflight_event), 0, 0, 0, NULL }
#define ONCEFLIGHT_STATS_INIT { sizeof(onceflight_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define ONCEFLIGHT_LEAD_INFO_INIT { sizeof(onceflight_lead_info), 0, 0, NULL }
#define ONCEFLIGHT_SESSION_LIMITS_INIT \
    { sizeof(onceflight_session_limits), ONCEFLIGHT_DEFAULT, ONCEFLIGHT_DEFAULT, ONCEFLIGHT_DEFAULT, \
      ONCEFLIGHT_DEFAULT, ONCEFLIGHT_DEFAULT, ONCEFLIGHT_DEFAULT }
#define ONCEFLIGHT_SESSION_STATS_INIT { sizeof(onceflight_session_stats), 0, 0, 0 }

// Done.
#define ONCEFLIGHT_OK 0

// Do the work, then settle with *lead.
#define ONCEFLIGHT_LEAD 1

// Joined a flight: *response.
#define ONCEFLIGHT_SHARED 2

// From the window or the store: *response.
#define ONCEFLIGHT_REPLAYED 3

// begin_async: the outcome arrives on the queue.
#define ONCEFLIGHT_PENDING 4

// The leader declined to share: do your own work, settle nothing.
#define ONCEFLIGHT_BYPASS 5

// A pointer that must not be NULL is.
#define ONCEFLIGHT_E_NULL -1

// An argument can't be used as it is.
#define ONCEFLIGHT_E_INVALID -2

// A bug in onceflight; the call did nothing, or not all.
#define ONCEFLIGHT_E_PANIC -3

// Still in flight after timeout_ms (0 = don't wait).
#define ONCEFLIGHT_E_TIMEOUT -4

// This lead was settled or overtaken.
#define ONCEFLIGHT_E_STALE -5

// The leader cancelled, and the table fails its followers.
#define ONCEFLIGHT_E_CANCELLED -6

// Same key, other fingerprint.
#define ONCEFLIGHT_E_MISMATCH -7

// Waiting would never end.
#define ONCEFLIGHT_E_WOULD_DEADLOCK -8

// A limit on keys in flight or on waiters is reached.
#define ONCEFLIGHT_E_OVERLOADED -9

// The key or the response is longer than the table's limit.
#define ONCEFLIGHT_E_TOO_LARGE -10

// The table or the queue is closed.
#define ONCEFLIGHT_E_CLOSED -11

// Made before a fork, by the parent.
#define ONCEFLIGHT_E_FORKED -12

// The store failed or can't be reached; nothing was executed on its word.
#define ONCEFLIGHT_E_STORE -13

// An earlier attempt's outcome is unknown and the policy forbids taking over.
#define ONCEFLIGHT_E_UNKNOWN -14

// The buffer is too small; *size says what is needed.
#define ONCEFLIGHT_E_BUFFER -15

// Built without that store or feature.
#define ONCEFLIGHT_E_UNSUPPORTED -16

// Session expired or never registered.
#define ONCEFLIGHT_E_EXPIRED -20

// A later incarnation of this client has registered.
#define ONCEFLIGHT_E_FENCED -21

// The sequence number is below the window.
#define ONCEFLIGHT_E_SEQ_STALE -22

// The sequence number is beyond the window.
#define ONCEFLIGHT_E_WINDOW_FULL -23

// Same sequence number, other payload.
#define ONCEFLIGHT_E_CONFLICT -24

// The request contradicts itself.
#define ONCEFLIGHT_E_MALFORMED -25

// Snapshot of an unknown version, or corrupt.
#define ONCEFLIGHT_E_FORMAT -26

// The header's version, part by part.
#define ONCEFLIGHT_VERSION_MAJOR 0

// See ONCEFLIGHT_VERSION_MAJOR.
#define ONCEFLIGHT_VERSION_MINOR 1

// See ONCEFLIGHT_VERSION_MAJOR.
#define ONCEFLIGHT_VERSION_PATCH 0

// No limit in time.
#define ONCEFLIGHT_FOREVER UINT64_MAX

// The table's own setting.
#define ONCEFLIGHT_DEFAULT (UINT64_MAX - 1)

// on_cancel: the first follower in line leads (the default).
#define ONCEFLIGHT_PROMOTE 0

// on_cancel: all followers get ONCEFLIGHT_E_CANCELLED.
#define ONCEFLIGHT_FAIL_ALL 1

// on_lease_expired: the first follower in line, or the next begin, leads (the default).
#define ONCEFLIGHT_TAKE_OVER 0

// on_lease_expired: nobody leads, and all get ONCEFLIGHT_E_UNKNOWN.
#define ONCEFLIGHT_HOLD 1

// The lead will be settled on the thread that begins, so that a wait that would never end is found.
#define ONCEFLIGHT_SAME_THREAD 1

// May lead where an earlier attempt's outcome is unknown.
#define ONCEFLIGHT_RECOVER 2

// For callers that take a lock of their own as they return, like the threads of an interpreter with one
// big lock: a crowd that waited for one flight in memory returns one by one, the next when a caller
// says onceflight_turn_done. All at once they would line up at that lock. A turn of more than 2 ms isn't
// waited for. A lead, a replay and a small crowd return at once.
#define ONCEFLIGHT_IN_TURN 4

// Options of a table to be made. Not thread-safe; free it once the table is made.
typedef struct onceflight_options onceflight_options;

// Where the outcomes of onceflight_begin_async arrive, from any number of tables. All functions on
// it may be called from any thread, but for onceflight_queue_free, which must come after every
// call that isn't blocked already.
typedef struct onceflight_queue onceflight_queue;

// What a leader completed with: a status and bytes, which never change. Holders share one copy;
// each frees its own hold. Outlives the table and the queue it came from. Thread-safe.
typedef struct onceflight_response onceflight_response;

// What onceflight_sessions_save has to say. Never changes; thread-safe; outlives its table.
typedef struct onceflight_rows onceflight_rows;

// The sessions of a replicated state machine: what was executed, and what was said to it. A part of
// the state machine: every replica applies the same log to its own, and so gives the same answers and
// the same snapshot. Nothing in it reads a clock, draws a number or does I/O; now_ms comes from the
// log, which has it from its leader, and where it goes back the table's time stands still.
//
// client and nonce are any bytes, 255 at most. All functions may be called from any thread, but for
// onceflight_sessions_free, which must come last. After a fork the child's copy says
// ONCEFLIGHT_E_FORKED.
typedef struct onceflight_sessions onceflight_sessions;

// A table of keys and responses. All functions on it may be called from any thread, but for
// onceflight_table_free, which must come after every call that isn't blocked already. After a fork
// the child's copy says ONCEFLIGHT_E_FORKED.
typedef struct onceflight_table onceflight_table;

// Names a lead. Never 0; a stale one is refused.
typedef uint64_t onceflight_lead;

// One request to begin; start from ONCEFLIGHT_REQUEST_INIT. Read during the call only.
typedef struct onceflight_request {
    // sizeof(onceflight_request).
    size_t struct_size;
    // What says "the same request". NULL is empty if key_len is 0.
    const uint8_t *key;
    // In bytes.
    size_t key_len;
    // What says "the same payload"; NULL: none.
    const uint8_t *fingerprint;
    // In bytes.
    size_t fingerprint_len;
    // How long to wait; 0: don't; ONCEFLIGHT_FOREVER.
    uint64_t timeout_ms;
    // The lease, should this request lead; ONCEFLIGHT_DEFAULT: the table's.
    uint64_t lease_ms;
    // How long the response is kept, should this request lead; ONCEFLIGHT_DEFAULT: the table's.
    uint64_t ttl_ms;
    // ONCEFLIGHT_SAME_THREAD | ONCEFLIGHT_RECOVER | ONCEFLIGHT_IN_TURN.
    uint32_t flags;
} onceflight_request;

// What a lead is; start from ONCEFLIGHT_LEAD_INFO_INIT.
typedef struct onceflight_lead_info {
    // sizeof(onceflight_lead_info).
    size_t struct_size;
    // Grows with every leader of a key.
    uint64_t fence;
    // 1 for the first leader of a flight.
    uint32_t attempt;
    // What an earlier leader left; NULL: nothing; else to be freed.
    struct onceflight_response *checkpoint;
} onceflight_lead_info;

// What a table has done; start from ONCEFLIGHT_STATS_INIT.
typedef struct onceflight_stats {
    // sizeof(onceflight_stats).
    size_t struct_size;
    // Leads given: first ones, promotions and takeovers.
    uint64_t leads;
    // Responses given to followers.
    uint64_t shared;
    // Responses given from the window.
    uint64_t replayed;
    // Followers told to do their own work.
    uint64_t bypassed;
    // Callers whose time was up, timeout 0 included.
    uint64_t timeouts;
    // Leads cancelled.
    uint64_t cancels;
    // Leads given because the one before was cancelled.
    uint64_t promotions;
    // Leads given because the one before was abandoned or overdue.
    uint64_t takeovers;
    // Leads refused as stale.
    uint64_t stale;
    // Responses dropped before their time to make room.
    uint64_t evictions;
    // Keys in flight now.
    uint64_t in_flight;
    // Followers in line now.
    uint64_t waiting;
    // Responses held now.
    uint64_t completed;
    // Their bytes, keys included.
    uint64_t completed_bytes;
} onceflight_stats;

// An outcome of a queue, as `onceflight_queue_next` tells it; start from ONCEFLIGHT_EVENT_INIT.
typedef struct onceflight_event {
    // sizeof(onceflight_event).
    size_t struct_size;
    // The tag of its onceflight_begin_async.
    uint64_t tag;
    // What onceflight_begin would have returned.
    int32_t outcome;
    // Not 0 only for ONCEFLIGHT_LEAD.
    onceflight_lead lead;
    // Not NULL only for SHARED and REPLAYED; to be freed.
    struct onceflight_response *response;
} onceflight_event;

// Some bytes of the caller's.
typedef struct onceflight_slice {
    // May be NULL if len is 0.
    const uint8_t *data;
    // In bytes.
    size_t len;
} onceflight_slice;

// What bounds a table of sessions; start from ONCEFLIGHT_SESSION_LIMITS_INIT, which has
// ONCEFLIGHT_DEFAULT for all. Every replica needs the same; a snapshot carries them.
typedef struct onceflight_session_limits {
    // sizeof(onceflight_session_limits).
    size_t struct_size;
    // Sessions; one more, and that whose last use is the longest ago goes. Default: 65536.
    uint64_t max_sessions;
    // How many requests a client may have in progress, 1 to 64. Default: 16.
    uint64_t window;
    // How long a session lives without being used, in ms of the log's time. Default: 3600000.
    // ONCEFLIGHT_FOREVER: sessions don't expire.
    uint64_t timeout_ms;
    // The longest response that is kept, 2147483648 at most. Default: 1048576.
    uint64_t max_response_len;
    // Bytes of responses that one session keeps; what doesn't fit is as too long. Default: 16777216.
    uint64_t max_session_bytes;
    // Bytes of responses of all sessions, no fewer than of one; past that, whole sessions go, those
    // whose last use is the longest ago first. Default: 268435456.
    uint64_t max_bytes;
} onceflight_session_limits;

// How a table of sessions stands; start from ONCEFLIGHT_SESSION_STATS_INIT.
typedef struct onceflight_session_stats {
    // sizeof(onceflight_session_stats).
    size_t struct_size;
    // How many there are.
    uint64_t sessions;
    // The bytes of all their responses.
    uint64_t response_bytes;
    // The log's time: the highest that a change came with.
    uint64_t now_ms;
} onceflight_session_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The text of a code. Static: never freed.
const char *onceflight_strerror(int32_t code);

// The name of a code, such as "ONCEFLIGHT_E_STALE". Static: never freed.
const char *onceflight_err_name(int32_t code);

// Writes the detail of this thread's last error, NUL-terminated, into buffer. size: its capacity
// in, what is needed out. Too small: ONCEFLIGHT_E_BUFFER, and nothing is written (buffer may be
// NULL to ask for the size, with *size = 0). Calls that succeed leave the detail as it was; so
// does this one.
int32_t onceflight_last_error(char *buffer, size_t *size);

// The library's version: MAJOR * 1000000 + MINOR * 1000 + PATCH.
uint32_t onceflight_version_number(void);

// The library's version as text. Static: never freed.
const char *onceflight_version_string(void);

// New options, all at their defaults. Never NULL.
struct onceflight_options *onceflight_options_new(void);

// Frees options. NULL does nothing. Tables made from them are not concerned.
void onceflight_options_free(struct onceflight_options *options);

// How long a completed response is replayed, in ms, from its completion on. Default: 0, in flight
// only (24 h over a store).
int32_t onceflight_options_set_completed_ttl_ms(struct onceflight_options *options, uint64_t value);

// How long a leader may take before another may take over, in ms. Default: ONCEFLIGHT_FOREVER
// (30000 over a store).
int32_t onceflight_options_set_lease_ms(struct onceflight_options *options, uint64_t value);

// 1: leases are renewed while the process lives, up to max_lead_ms. Default: 0 (1 over a store).
int32_t onceflight_options_set_heartbeat(struct onceflight_options *options, uint64_t value);

// How long a heartbeat keeps a lead that doesn't settle, in ms. Default: 600000.
int32_t onceflight_options_set_max_lead_ms(struct onceflight_options *options, uint64_t value);

// How long an unread LEAD event is on offer before it passes on, in ms. Default: 5000.
int32_t onceflight_options_set_offer_ms(struct onceflight_options *options, uint64_t value);

// How long a store may take to answer, in ms; what settles a lead is tried again that long. Default:
// 5000. Without effect on a table in memory.
int32_t onceflight_options_set_store_timeout_ms(struct onceflight_options *options, uint64_t value);

// Keys in flight at once. Default: 1048576.
int32_t onceflight_options_set_max_in_flight(struct onceflight_options *options, uint64_t value);

// Followers of one key at once. Default: 16384.
int32_t onceflight_options_set_max_waiters(struct onceflight_options *options, uint64_t value);

// Completed responses held; the one that would expire soonest goes first. Default: 1048576. Without
// effect over a store.
int32_t onceflight_options_set_max_completed(struct onceflight_options *options, uint64_t value);

// Bytes of completed responses held, keys included. Default: 268435456. Without effect over a store.
int32_t onceflight_options_set_max_completed_bytes(struct onceflight_options *options, uint64_t value);

// The longest key, in bytes. Default: 65536.
int32_t onceflight_options_set_max_key_len(struct onceflight_options *options, uint64_t value);

// The longest response or checkpoint, in bytes. Default: 16777216.
int32_t onceflight_options_set_max_response_len(struct onceflight_options *options, uint64_t value);

// ONCEFLIGHT_PROMOTE or ONCEFLIGHT_FAIL_ALL.
int32_t onceflight_options_set_on_cancel(struct onceflight_options *options, uint64_t value);

// ONCEFLIGHT_TAKE_OVER or ONCEFLIGHT_HOLD.
int32_t onceflight_options_set_on_lease_expired(struct onceflight_options *options, uint64_t value);

// The status that the leader gave. 0 for NULL.
int32_t onceflight_response_status(const struct onceflight_response *response);

// The bytes. Never NULL; valid until this hold is freed.
const uint8_t *onceflight_response_data(const struct onceflight_response *response);

// How many bytes. 0 for NULL.
size_t onceflight_response_len(const struct onceflight_response *response);

// Another hold on the same response, to be freed too. NULL for NULL.
struct onceflight_response *onceflight_response_retain(const struct onceflight_response *response);

// Frees this hold. NULL does nothing.
void onceflight_response_free(struct onceflight_response *response);

// A table in memory. options: NULL for the defaults.
int32_t onceflight_table_new(const struct onceflight_options *options, struct onceflight_table **table);

// A table by URL: "memory:", "sqlite:PATH", "postgres://…", "redis://…", "redis-cluster://H:P,H:P",
// "memcached://H:P,H:P". ONCEFLIGHT_E_UNSUPPORTED: this build lacks that store.
// ONCEFLIGHT_E_STORE: it can't be reached or used. options: NULL for the defaults, which differ
// between a table in memory and one over a store.
int32_t onceflight_table_open(const char *url,
                              const struct onceflight_options *options,
                              struct onceflight_table **table);

// Refuses new begins and wakes every waiter, pending events included, with ONCEFLIGHT_E_CLOSED.
// Leads still settle.
int32_t onceflight_table_close(const struct onceflight_table *table);

// Closes the table, abandons what is in flight, and frees it. Threads blocked inside get
// ONCEFLIGHT_E_CLOSED. NULL does nothing.
void onceflight_table_free(struct onceflight_table *table);

// Leads, replays or follows, for at most timeout_ms (0: don't wait; ONCEFLIGHT_FOREVER). LEAD: do
// the work, then settle with *lead. SHARED, REPLAYED: *response, to be freed. BYPASS: do your own
// work, settle nothing.
int32_t onceflight_begin(const struct onceflight_table *table,
                         const uint8_t *key,
                         size_t key_len,
                         uint64_t timeout_ms,
                         onceflight_lead *lead,
                         struct onceflight_response **response);

// onceflight_begin with terms of its own.
int32_t onceflight_begin_request(const struct onceflight_table *table,
                                 const struct onceflight_request *request,
                                 onceflight_lead *lead,
                                 struct onceflight_response **response);

// Settles: every follower gets the response, and it is replayed for the ttl of the request or the
// table. The bytes are copied. TOO_LARGE leaves the lead live.
int32_t onceflight_complete(const struct onceflight_table *table,
                            onceflight_lead lead,
                            int32_t status,
                            const uint8_t *data,
                            size_t len);

// onceflight_complete, replayed for ttl_ms. 0: share with the followers, don't retain.
int32_t onceflight_complete_for(const struct onceflight_table *table,
                                onceflight_lead lead,
                                int32_t status,
                                const uint8_t *data,
                                size_t len,
                                uint64_t ttl_ms);

// Settles: nothing happened. The first follower in line leads, or all get CANCELLED, by option.
int32_t onceflight_cancel(const struct onceflight_table *table, onceflight_lead lead);

// Settles: it may have happened. The first follower in line, or the next begin, leads; or the
// outcome is unknown, by option. A store that can't be told now (ONCEFLIGHT_E_STORE) is told later: the
// lead is over in any case.
int32_t onceflight_abandon(const struct onceflight_table *table, onceflight_lead lead);

// Settles: nothing happened, and those who wait in this process get this response instead of a lead.
// It isn't kept; over a store, who waits in another process leads. The bytes are copied. TOO_LARGE
// leaves the lead live.
int32_t onceflight_cancel_with(const struct onceflight_table *table,
                               onceflight_lead lead,
                               int32_t status,
                               const uint8_t *data,
                               size_t len);

// Settles: it may have happened, and those who wait in this process get this response. It isn't kept:
// the next begin (over a store, whoever waits in another process) leads; or the outcome is unknown, by
// option. The bytes are copied. TOO_LARGE leaves the lead live; ONCEFLIGHT_E_STORE is as in
// onceflight_abandon.
int32_t onceflight_abandon_with(const struct onceflight_table *table,
                                onceflight_lead lead,
                                int32_t status,
                                const uint8_t *data,
                                size_t len);

// Settles: not to be shared. All followers get BYPASS at once.
int32_t onceflight_decline(const struct onceflight_table *table, onceflight_lead lead);

// Makes the lease end lease_ms from now (ONCEFLIGHT_DEFAULT: as long as it was granted).
int32_t onceflight_renew(const struct onceflight_table *table, onceflight_lead lead, uint64_t lease_ms);

// Leaves bytes for a successor, in place of those before. The bytes are copied.
int32_t onceflight_checkpoint(const struct onceflight_table *table,
                              onceflight_lead lead,
                              const uint8_t *data,
                              size_t len);

// A live lead's fence, attempt and checkpoint.
int32_t onceflight_lead_details(const struct onceflight_table *table,
                                onceflight_lead lead,
                                struct onceflight_lead_info *info);

// Drops a completed response; detaches a flight, whose followers still get its outcome while a new
// begin starts afresh (over a store a flight is left as it is). ONCEFLIGHT_OK too if there was
// nothing.
int32_t onceflight_forget(const struct onceflight_table *table, const uint8_t *key, size_t key_len);

// This thread is back from a begin with ONCEFLIGHT_IN_TURN: the next may return. To be called after each,
// whatever its outcome; once more does nothing.
void onceflight_turn_done(void);

// Counters since the table was made, and how it stands now. Over a store they are this process's, and
// completed, completed_bytes and evictions are 0: records are the store's.
int32_t onceflight_table_stats(const struct onceflight_table *table, struct onceflight_stats *stats);

// A new queue.
int32_t onceflight_queue_new(struct onceflight_queue **queue);

// A file descriptor that polls readable while an event waits. Only poll it: reading, writing and
// closing it are the queue's. Valid until the queue is freed. -1 for NULL.
int onceflight_queue_fd(const struct onceflight_queue *queue);

// Takes the next event, waiting for at most timeout_ms (0: don't; ONCEFLIGHT_FOREVER). OK: *event
// is filled, and the detail of an outcome that is an error is this thread's last error.
// ONCEFLIGHT_E_TIMEOUT: none came.
int32_t onceflight_queue_next(const struct onceflight_queue *queue,
                              uint64_t timeout_ms,
                              struct onceflight_event *event);

// Stops waiting: no event with that tag will come. ONCEFLIGHT_E_INVALID if none was to come.
int32_t onceflight_queue_leave(const struct onceflight_queue *queue, uint64_t tag);

// Ends the queue's waits, frees unread responses, passes unread leads on, and frees the queue.
// Threads blocked in onceflight_queue_next get ONCEFLIGHT_E_CLOSED. NULL does nothing.
void onceflight_queue_free(struct onceflight_queue *queue);

// onceflight_begin_request without blocking. PENDING: the outcome arrives on the queue, as an
// event with that tag; one with ONCEFLIGHT_E_TIMEOUT if timeout_ms passes first. A LEAD that
// arrives is an offer: unread for the table's offer_ms, or its queue freed, it passes on. Over a store
// nothing is asked on this thread, so the answer is PENDING whenever the request is accepted.
int32_t onceflight_begin_async(const struct onceflight_table *table,
                               const struct onceflight_request *request,
                               const struct onceflight_queue *queue,
                               uint64_t tag,
                               onceflight_lead *lead,
                               struct onceflight_response **response);

// The key of a request: 16 bytes from its method, URL, the headers that matter and its body. Each
// header is one slice that holds a whole line, "Name: value"; names are compared without case, and
// the order of different names doesn't matter. secret: 16 bytes, or NULL for one drawn at random
// for this process, which is right for keys that live in memory; a key kept in a store wants a
// secret of its own. key: 16 bytes, zeroed if the call fails.
int32_t onceflight_request_key(const char *method,
                               const char *url,
                               const struct onceflight_slice *headers,
                               size_t header_count,
                               const uint8_t *body,
                               size_t body_len,
                               const uint8_t *secret,
                               uint8_t *key);

// The fingerprint of a payload: 16 bytes from its fields, each with its length, so that moving a
// boundary changes it. secret: 16 bytes, or NULL for the fixed, documented one, which is the same
// in every process. fingerprint: 16 bytes, zeroed if the call fails.
int32_t onceflight_fingerprint(const struct onceflight_slice *fields,
                               size_t count,
                               const uint8_t *secret,
                               uint8_t *fingerprint);

// A table without sessions. max_sessions: when there are more, that whose last use is the longest ago
// goes. window: how many requests a client may have in progress, 1 to 64. timeout_ms: how long a
// session lives without being used, in the log's time; ONCEFLIGHT_FOREVER, ONCEFLIGHT_DEFAULT.
// Every replica needs the same; ONCEFLIGHT_E_INVALID: out of range, as 0 is.
int32_t onceflight_sessions_new(uint32_t max_sessions,
                                uint32_t window,
                                uint64_t timeout_ms,
                                struct onceflight_sessions **sessions);

// onceflight_sessions_new with more limits.
int32_t onceflight_sessions_with_limits(const struct onceflight_session_limits *limits,
                                        struct onceflight_sessions **sessions);

// Frees the table. NULL does nothing; nor does a copy that the child of a fork inherited.
void onceflight_sessions_free(struct onceflight_sessions *sessions);

// A session for client, and its incarnation, which no other has had. The same nonce again is the same
// registration again, and is answered the same; another nonce is another life of that client, and what
// the earlier one still has under way is ONCEFLIGHT_E_FENCED from then on: draw it at random. Only the
// last nonce is known: a late copy of an earlier registration is another life too.
// ONCEFLIGHT_E_TOO_LARGE: client or nonce is too long.
int32_t onceflight_sessions_register(struct onceflight_sessions *sessions,
                                     const uint8_t *client,
                                     size_t client_len,
                                     const uint8_t *nonce,
                                     size_t nonce_len,
                                     uint64_t now_ms,
                                     uint64_t *incarnation);

// Whether a request of the log is to be executed now, or what was said to it. LEAD: execute it, then
// onceflight_sessions_record; until then the table refuses every other change, and a snapshot.
// REPLAYED: *response, to be freed. An error: nothing is executed.
//
// seq: the client's number for it, from 1 on, in any order. ack: the lowest number that the client has
// no reply of, seq at most; what is below is forgotten; 0 says nothing. digest: 16 bytes that tell this
// payload from another (onceflight_fingerprint); NULL: none. incarnation 0: a client that doesn't
// register; its seq 1 does, and without an ack its window follows seq.
//
// ONCEFLIGHT_E_EXPIRED: no such session, whether earlier requests were executed can't be told.
// ONCEFLIGHT_E_FENCED: a later incarnation has registered. ONCEFLIGHT_E_SEQ_STALE: acknowledged.
// ONCEFLIGHT_E_WINDOW_FULL: acknowledge first. ONCEFLIGHT_E_CONFLICT: executed with another digest.
// ONCEFLIGHT_E_TOO_LARGE: executed, but the response couldn't be kept. ONCEFLIGHT_E_MALFORMED: seq is 0
// or UINT64_MAX, ack is above it, or the client's name is too long. ONCEFLIGHT_E_INVALID: an entry is
// open.
int32_t onceflight_sessions_begin(struct onceflight_sessions *sessions,
                                  const uint8_t *client,
                                  size_t client_len,
                                  uint64_t incarnation,
                                  uint64_t seq,
                                  uint64_t ack,
                                  const uint8_t *digest,
                                  uint64_t now_ms,
                                  struct onceflight_response **response);

// What the open entry, of this client, incarnation and seq, was executed with: what a retry is told.
// The bytes are copied. ONCEFLIGHT_E_TOO_LARGE: the response is more than the limits allow, so a retry
// is told that, and the entry is closed too. Any other error changes nothing.
int32_t onceflight_sessions_record(struct onceflight_sessions *sessions,
                                   const uint8_t *client,
                                   size_t client_len,
                                   uint64_t incarnation,
                                   uint64_t seq,
                                   int32_t status,
                                   const uint8_t *data,
                                   size_t len);

// What was said to a request, if it was executed here: for a leader, which so answers a retry without
// the log. Changes nothing. REPLAYED: *response, to be freed. ONCEFLIGHT_OK: nothing is known of it
// here; propose it. Errors as of onceflight_sessions_begin; where entries of the log are still to be
// applied here, ONCEFLIGHT_E_EXPIRED isn't certain: propose it too.
int32_t onceflight_sessions_peek(const struct onceflight_sessions *sessions,
                                 const uint8_t *client,
                                 size_t client_len,
                                 uint64_t incarnation,
                                 uint64_t seq,
                                 struct onceflight_response **response);

// Keeps a session from expiring.
int32_t onceflight_sessions_keep_alive(struct onceflight_sessions *sessions,
                                       const uint8_t *client,
                                       size_t client_len,
                                       uint64_t incarnation,
                                       uint64_t now_ms);

// Ends a client's session, whichever incarnation it is. ONCEFLIGHT_E_EXPIRED: there is none.
int32_t onceflight_sessions_unregister(struct onceflight_sessions *sessions,
                                       const uint8_t *client,
                                       size_t client_len);

// Ends the sessions whose timeout has passed by now_ms, and tells how many. Every other change that
// has a now_ms does so too; this is for times when there is none.
int32_t onceflight_sessions_expire(struct onceflight_sessions *sessions, uint64_t now_ms, uint64_t *expired);

// How the table stands now.
int32_t onceflight_sessions_stats(const struct onceflight_sessions *sessions,
                                  struct onceflight_session_stats *stats);

// All of the table: the data of *bytes, to be freed. It belongs into one snapshot with the state that
// the requests have changed. Other threads wait only while a pointer is copied for each 32 sessions;
// what they change later isn't in it. Replicas that applied the same log have the same bytes.
// ONCEFLIGHT_E_INVALID: an entry is open. ONCEFLIGHT_E_TOO_LARGE: 4 GiB or more.
int32_t onceflight_sessions_snapshot(const struct onceflight_sessions *sessions,
                                     struct onceflight_response **bytes);

// The table that a snapshot was made of, its limits included. ONCEFLIGHT_E_FORMAT: the bytes are of a
// version that this library doesn't know, or no snapshot (any more).
int32_t onceflight_sessions_restore(const uint8_t *data, size_t len, struct onceflight_sessions **sessions);

// What has changed since the last save, as rows for a database of the caller's own: all the first time,
// and nothing that onceflight_sessions_load gave. *rows is to be freed. They belong into the transaction
// that changes the state; if that doesn't commit, the table is ahead of the database, and must be loaded
// from it again. ONCEFLIGHT_E_INVALID: an entry is open.
int32_t onceflight_sessions_save(struct onceflight_sessions *sessions, struct onceflight_rows **rows);

// How many rows. 0 for NULL.
size_t onceflight_rows_count(const struct onceflight_rows *rows);

// One of the rows, from 0 on. client.data is NULL: row is the table's own, of which there is one. row.data
// is NULL: the client's row is to be deleted, if there is one. Otherwise row takes the place of the
// client's row before. Both are valid until the rows are freed. ONCEFLIGHT_E_INVALID: there is no such.
int32_t onceflight_rows_at(const struct onceflight_rows *rows,
                           size_t index,
                           struct onceflight_slice *client,
                           struct onceflight_slice *row);

// Frees rows. NULL does nothing.
void onceflight_rows_free(struct onceflight_rows *rows);

// The table that was saved: its own row, and those of all clients, in any order. ONCEFLIGHT_E_FORMAT: a row
// is corrupt, of a newer version, missing, or one too many.
int32_t onceflight_sessions_load(const uint8_t *table,
                                 size_t table_len,
                                 const struct onceflight_slice *rows,
                                 size_t count,
                                 struct onceflight_sessions **sessions);

// Writes the text of a statement, NUL-terminated, into buffer: for a transaction of the caller's own, on
// a connection of its own, in which the record and the caller's rows commit together or not at all. url
// names the store, as for onceflight_table_open. size: the buffer's capacity in, what is needed out. Too
// small: ONCEFLIGHT_E_BUFFER, and nothing is written (buffer may be NULL to ask for the size, with
// *size = 0). ONCEFLIGHT_E_INVALID: no such statement. ONCEFLIGHT_E_UNSUPPORTED: no store in SQL, or
// this build lacks it. ONCEFLIGHT_E_STORE: it can't be reached.
//
// "postgres://…": asks the server for the schema, and makes the tables unless they are there.
// "claim", "complete" and "release": what $1, $2 and so on are, and the columns that come back, stands
// at the top of each text. $1 is onceflight_fingerprint of scope and key, without a secret.
//
// "sqlite:": nothing is opened; PATH may be left out. The file's tables are made by whoever first opens
// a table on it. All in one transaction, begun with BEGIN IMMEDIATE. While the process has a table open
// on the file, it mustn't open it through another copy of SQLite than this library's, such as the
// system's: each would take the other's locks away.
//
//   "look"      what a claim is answered, in the column verdict. No row, or "vacant": lead with attempt 1
//               and checkpoint NULL. "succeed": lead with attempt + 1 and the checkpoint of the row.
//               "held": this token leads already. "completed": status and body are the response.
//               "mismatch", "in progress", "unknown": as from onceflight_begin. scope and key of the row
//               must be the caller's: the id is but a hash. :id :token :fingerprint :following :take_over
//               :boot :now :wall
//   "lead"      gives the epoch, which is the fence. :id :scope :key :fingerprint :token :attempt
//               :checkpoint :boot :lease_until :ends :keep
//   "complete"  changes one row, or the lead is stale. :id :token :epoch :status :body :expires
//   "cancel"    likewise. :id :token :epoch
//
//   :id            16 bytes: onceflight_fingerprint of scope and key, without a secret
//   :scope :key    bytes; the scope of a table in C is empty, not NULL
//   :fingerprint   bytes, or NULL
//   :token         16 random bytes, drawn for each claim
//   :boot          16 bytes: /proc/sys/kernel/random/boot_id, from hexadecimal
//   :now           CLOCK_BOOTTIME, in nanoseconds
//   :wall          milliseconds since 1970
//   :following     NULL, or the epoch of a flight that was waited for
//   :take_over     1, or 0 to hold where a lead was lost
//   :lease_until   when the lease ends, by the clock of :now, and :ends, by that of :wall; NULL: none is
//                  needed where the transaction that claims completes too
//   :keep          milliseconds that a lost lead is remembered; NULL: for ever
//   :expires       when the response is forgotten, by the clock of :wall; NULL: never
//   :status :body  the response: 32 bits, and bytes that aren't NULL
int32_t onceflight_sql(const char *url, const char *statement, char *buffer, size_t *size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ONCEFLIGHT_H */
