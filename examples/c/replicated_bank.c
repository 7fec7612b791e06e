/* A bank as a replicated state machine: clients send a request again until they have a reply, the log so gets some of
 * them twice, and each happens once, on every replica, with one reply.
 *
 * What orders and carries the log (Raft, a queue, a file) isn't part of this: here it is an array. A late replica
 * starts from a snapshot, in which the accounts and the sessions stand together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onceflight.h"

#define ACCOUNTS 2

enum what { REGISTER, DEPOSIT };

/* An entry of the log: what a client sent, and the time that the leader gave it. No replica looks at its own clock. */
typedef struct {
    uint64_t now_ms;
    const char *client;
    enum what what;
    const char *nonce;    /* of a registration: the same, and it is the same registration */
    uint64_t incarnation; /* of a deposit: what the reply to the registration said */
    uint64_t seq, ack;
    int account;
    int64_t amount;
} entry;

static const entry LOG[] = {
    {1000, "alice", REGISTER, "4f1c", 0, 0, 0, 0, 0},
    {1010, "bob", REGISTER, "a2e8", 0, 0, 0, 0, 0},
    {1020, "alice", DEPOSIT, NULL, 1, 1, 0, 0, 100},
    {1030, "alice", DEPOSIT, NULL, 1, 1, 0, 0, 100}, /* no reply in time, so it was sent again */
    {1040, "bob", DEPOSIT, NULL, 2, 1, 0, 1, 70},
    {1050, "alice", REGISTER, "4f1c", 0, 0, 0, 0, 0}, /* as was this */
    {1060, "alice", DEPOSIT, NULL, 1, 3, 2, 0, 5},    /* two in progress, and the later came first */
    {1070, "alice", DEPOSIT, NULL, 1, 2, 2, 1, -30},
    {1080, "bob", DEPOSIT, NULL, 2, 1, 0, 1, 70}, /* to another leader, which has the reply of the first time */
    {1090, "alice", DEPOSIT, NULL, 1, 3, 2, 0, 5},
    {1100, "alice", DEPOSIT, NULL, 1, 1, 0, 0, 100}, /* a copy from long ago: its reply was acknowledged */
};
#define ENTRIES ((int)(sizeof LOG / sizeof *LOG))

typedef struct {
    onceflight_sessions *sessions;
    int64_t accounts[ACCOUNTS];
    int executed, replayed, refused;
} replica;

static void fail(const char *what, int32_t code)
{
    fprintf(stderr, "%s: %s: %s\n", what, onceflight_err_name(code), onceflight_strerror(code));
    exit(1);
}

/* What the client is told goes out from the leader alone. */
static void enrol(replica *self, const entry *e)
{
    uint64_t incarnation;
    int32_t code = onceflight_sessions_register(self->sessions, (const uint8_t *)e->client, strlen(e->client),
                                                (const uint8_t *)e->nonce, strlen(e->nonce), e->now_ms, &incarnation);
    if (code != ONCEFLIGHT_OK)
        fail("register", code);
}

static void deposit(replica *self, const entry *e)
{
    const uint8_t *client = (const uint8_t *)e->client;
    const size_t client_len = strlen(e->client);
    onceflight_response *reply;
    char balance[32];
    int32_t code = onceflight_sessions_begin(self->sessions, client, client_len, e->incarnation, e->seq, e->ack, NULL,
                                             e->now_ms, &reply);
    switch (code) {
    case ONCEFLIGHT_LEAD: /* it is new: do it, and say what came of it */
        self->executed++;
        self->accounts[e->account] += e->amount;
        snprintf(balance, sizeof balance, "%lld", (long long)self->accounts[e->account]);
        code = onceflight_sessions_record(self->sessions, client, client_len, e->incarnation, e->seq, 0,
                                          (const uint8_t *)balance, strlen(balance));
        if (code != ONCEFLIGHT_OK)
            fail("record", code);
        break;
    case ONCEFLIGHT_REPLAYED: /* the reply of the first time */
        self->replayed++;
        onceflight_response_free(reply);
        break;
    default: /* the client is told why; nothing has happened */
        self->refused++;
    }
}

static void apply(replica *self, int from, int to)
{
    for (; from < to; from++)
        (LOG[from].what == REGISTER ? enrol : deposit)(self, &LOG[from]);
}

static onceflight_response *snapshot_of(const replica *self)
{
    onceflight_response *bytes;
    int32_t code = onceflight_sessions_snapshot(self->sessions, &bytes);
    if (code != ONCEFLIGHT_OK)
        fail("snapshot", code);
    return bytes;
}

static int same_state(const replica *one, const replica *other)
{
    onceflight_response *first = snapshot_of(one), *second = snapshot_of(other);
    size_t len = onceflight_response_len(first);
    int same = memcmp(one->accounts, other->accounts, sizeof one->accounts) == 0 &&
               len == onceflight_response_len(second) &&
               memcmp(onceflight_response_data(first), onceflight_response_data(second), len) == 0;
    onceflight_response_free(first);
    onceflight_response_free(second);
    return same;
}

int main(void)
{
    replica first = {NULL, {0, 0}, 0, 0, 0}, late = {NULL, {0, 0}, 0, 0, 0};
    onceflight_response *sessions;
    int32_t code = onceflight_sessions_new(1000, 8, 60000, &first.sessions);
    if (code != ONCEFLIGHT_OK)
        fail("sessions", code);

    apply(&first, 0, 6);
    sessions = snapshot_of(&first);
    memcpy(late.accounts, first.accounts, sizeof late.accounts);
    code = onceflight_sessions_restore(onceflight_response_data(sessions), onceflight_response_len(sessions),
                                       &late.sessions);
    if (code != ONCEFLIGHT_OK)
        fail("restore", code);
    onceflight_response_free(sessions);

    apply(&first, 6, ENTRIES);
    apply(&late, 6, ENTRIES);
    printf("%d deposits executed, %d replayed, %d refused; balances %lld and %lld; replicas %s\n", first.executed,
           first.replayed, first.refused, (long long)first.accounts[0], (long long)first.accounts[1],
           same_state(&first, &late) ? "agree" : "differ");
    code = first.executed == 4 && first.accounts[0] == 105 && first.accounts[1] == 40 && same_state(&first, &late);
    onceflight_sessions_free(first.sessions);
    onceflight_sessions_free(late.sessions);
    return code ? 0 : 1;
}
