/* durable_processes URL: what holds between processes, over every store; and after a fork, over memory too.
 *
 * The other process is this program again: a peer, which does what it reads from its standard input, one command a
 * line, and answers each with a line. It can be killed and stopped like any server. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <signal.h>

#include "child.h"
#include "durable.h"

#define LINE_LENGTH 256

static char *program;

/* What a peer was told: its outcome or error by name, and what came with it ("-" for nothing). */
typedef struct {
    char outcome[40];
    uint64_t fence;
    unsigned attempt;
    char text[80];
} answer;

/* ---- The peer. */

static void put_answer(int32_t code, onceflight_lead_info info, const onceflight_response *response)
{
    const char *text = response == NULL || onceflight_response_len(response) == 0
                           ? "-"
                           : (const char *)onceflight_response_data(response);
    int length = response == NULL ? 1 : (int)onceflight_response_len(response);
    printf("%s %" PRIu64 " %u %.*s\n", onceflight_err_name(code), info.fence, (unsigned)info.attempt,
           length == 0 ? 1 : length, text);
    fflush(stdout);
}

static onceflight_lead peer_begin(const onceflight_table *table, const char *key)
{
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    int32_t outcome = onceflight_begin(table, (const uint8_t *)key, strlen(key), FOREVER, &lead, &response);
    if (outcome == ONCEFLIGHT_LEAD)
        info = details_of(table, lead);
    put_answer(outcome, info, outcome == ONCEFLIGHT_LEAD ? info.checkpoint : response);
    onceflight_response_free(info.checkpoint);
    onceflight_response_free(response);
    return lead;
}

/* Leads and completes with the process's number, or tells the number of whoever did. */
static void peer_race(const onceflight_table *table, const char *key)
{
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    int32_t outcome = onceflight_begin(table, (const uint8_t *)key, strlen(key), FOREVER, &lead, &response);
    if (outcome == ONCEFLIGHT_LEAD) {
        char number[24];
        snprintf(number, sizeof number, "%ld", (long)getpid());
        if (onceflight_complete(table, lead, 0, (const uint8_t *)number, strlen(number)) != ONCEFLIGHT_OK)
            outcome = ONCEFLIGHT_E_PANIC;
        info.attempt = 1;
    }
    put_answer(outcome, info, response);
    onceflight_response_free(response);
}

static int be_peer(char **options)
{
    const onceflight_lead_info none = ONCEFLIGHT_LEAD_INFO_INIT;
    onceflight_table *table;
    onceflight_lead lead = 0;
    char line[LINE_LENGTH], verb[24], text[80];
    alarm(HANG_SECONDS);
    table = opened_with(onceflight_options_set_lease_ms, strtoull(options[0], NULL, 10), onceflight_options_set_heartbeat,
                        strtoull(options[1], NULL, 10));
    while (fgets(line, sizeof line, stdin) != NULL && sscanf(line, "%23s %79s", verb, text) == 2) {
        const uint8_t *data = (const uint8_t *)text;
        if (strcmp(verb, "begin") == 0)
            lead = peer_begin(table, text);
        else if (strcmp(verb, "race") == 0)
            peer_race(table, text);
        else if (strcmp(verb, "checkpoint") == 0)
            put_answer(onceflight_checkpoint(table, lead, data, strlen(text)), none, NULL);
        else if (strcmp(verb, "complete") == 0)
            put_answer(onceflight_complete(table, lead, 1, data, strlen(text)), none, NULL);
    }
    onceflight_table_free(table);
    return 0;
}

/* ---- Its master. */

typedef struct {
    pid_t pid;
    FILE *to, *from;
} peer;

static void peer_start(peer *self, const char *lease_ms, const char *heartbeat)
{
    int commands[2], answers[2];
    REQUIRE(pipe(commands) == 0 && pipe(answers) == 0);
    /* A later peer that held this one's input open would keep it from its end. */
    REQUIRE(fcntl(commands[1], F_SETFD, FD_CLOEXEC) == 0 && fcntl(answers[0], F_SETFD, FD_CLOEXEC) == 0);
    fflush(NULL);
    self->pid = fork();
    REQUIRE(self->pid >= 0);
    if (self->pid == 0) {
        dup2(commands[0], 0);
        dup2(answers[1], 1);
        close(commands[0]);
        close(answers[1]);
        execl(program, program, url, lease_ms, heartbeat, (char *)NULL);
        _exit(127);
    }
    close(commands[0]);
    close(answers[1]);
    self->to = fdopen(commands[1], "w");
    self->from = fdopen(answers[0], "r");
    REQUIRE(self->to != NULL && self->from != NULL);
}

static void tell(const peer *self, const char *verb, const char *text)
{
    REQUIRE(fprintf(self->to, "%s %s\n", verb, text) > 0 && fflush(self->to) == 0);
}

static answer heard(const peer *self)
{
    answer told;
    char line[LINE_LENGTH];
    REQUIRE(fgets(line, sizeof line, self->from) != NULL);
    REQUIRE(sscanf(line, "%39s %" SCNu64 " %u %79s", told.outcome, &told.fence, &told.attempt, told.text) == 4);
    return told;
}

static answer ask(const peer *self, const char *verb, const char *text)
{
    tell(self, verb, text);
    return heard(self);
}

static int was(answer told, const char *outcome, const char *text)
{
    int holds = strcmp(told.outcome, outcome) == 0 && strcmp(told.text, text) == 0;
    if (!holds)
        fprintf(stderr, "the peer was told %s \"%s\", not %s \"%s\"\n", told.outcome, told.text, outcome, text);
    return holds;
}

/* Its input's end lets it go; a killed one is gone. */
static void peer_end(peer *self)
{
    int status;
    fclose(self->to);
    fclose(self->from);
    REQUIRE(waitpid(self->pid, &status, 0) == self->pid);
}

/* ---- The tests. */

static void a_response_outlives_its_process(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    peer leader;
    peer_start(&leader, "60000", "1");
    CHECK(was(ask(&leader, "begin", key), "ONCEFLIGHT_LEAD", "-"));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, key));
    CHECK(was(ask(&leader, "complete", "kept"), "ONCEFLIGHT_OK", "-"));
    peer_end(&leader);
    CHECK(replays(table, key, 1, "kept"));
    onceflight_table_free(table);
}

static void sleep_ms(long ms)
{
    struct timespec span;
    span.tv_sec = ms / 1000;
    span.tv_nsec = ms % 1000 * 1000000;
    nanosleep(&span, NULL);
}

/* Followers elsewhere are told, and needn't look for themselves, which they do once a second. Nothing shows when
 * another process waits, so it is given more time until it does. */
static void a_follower_in_another_process_is_told(void)
{
    onceflight_table *table = opened();
    double fastest = 1e9;
    long head_start_ms = 1;
    int shared = 0;
    peer follower;
    peer_start(&follower, "60000", "1");
    while (shared < 5) {
        const char *key = new_key();
        onceflight_lead lead = lead_of(table, key);
        double start;
        answer told;
        tell(&follower, "begin", key);
        sleep_ms(head_start_ms);
        start = now_ms();
        EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, BYTES("told")));
        told = heard(&follower);
        if (strcmp(told.outcome, "ONCEFLIGHT_SHARED") == 0) {
            shared++;
            if (now_ms() - start < fastest)
                fastest = now_ms() - start;
        } else {
            CHECK(strcmp(told.outcome, "ONCEFLIGHT_REPLAYED") == 0);
            head_start_ms *= 2;
        }
        CHECK(strcmp(told.text, "told") == 0);
    }
    CHECK(fastest < 500);
    peer_end(&follower);
    onceflight_table_free(table);
}

/* A cancel here has a follower in another process lead. */
static void a_cancel_promotes_in_another_process(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    uint64_t fence = details_of(table, lead).fence;
    peer follower;
    answer told;
    peer_start(&follower, "60000", "1");
    tell(&follower, "begin", key);
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    told = heard(&follower);
    CHECK(was(told, "ONCEFLIGHT_LEAD", "-") && told.fence > fence);
    CHECK(was(ask(&follower, "complete", "instead"), "ONCEFLIGHT_OK", "-"));
    CHECK(replays(table, key, 1, "instead"));
    peer_end(&follower);
    onceflight_table_free(table);
}

/* What follows a leader that is gone: the lease lasts while its process does, and a successor has its checkpoint. */
static onceflight_lead succeeded(const onceflight_table *table, const char *key, const answer *first)
{
    onceflight_lead lead = lead_of(table, key);
    onceflight_lead_info info = details_of(table, lead);
    CHECK(info.attempt == 2 && info.fence > first->fence);
    CHECK(response_is(info.checkpoint, 0, "half"));
    onceflight_response_free(info.checkpoint);
    return lead;
}

static void a_killed_leader_is_succeeded_after_its_lease(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_request request = request_for(key);
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    peer leader;
    answer first;
    peer_start(&leader, "600", "1");
    first = ask(&leader, "begin", key);
    CHECK(was(first, "ONCEFLIGHT_LEAD", "-") && first.attempt == 1);
    CHECK(was(ask(&leader, "checkpoint", "half"), "ONCEFLIGHT_OK", "-"));
    request.timeout_ms = 1500;
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_begin_request(table, &request, &lead, &response));
    REQUIRE(kill(leader.pid, SIGKILL) == 0);
    lead = succeeded(table, key, &first);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 2, BYTES("the whole")));
    CHECK(replays(table, key, 2, "the whole"));
    peer_end(&leader);
    onceflight_table_free(table);
}

static void a_stopped_leader_that_comes_back_is_stale(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_lead lead;
    peer leader;
    answer first;
    peer_start(&leader, "600", "1");
    first = ask(&leader, "begin", key);
    CHECK(was(first, "ONCEFLIGHT_LEAD", "-"));
    CHECK(was(ask(&leader, "checkpoint", "half"), "ONCEFLIGHT_OK", "-"));
    REQUIRE(kill(leader.pid, SIGSTOP) == 0);
    lead = succeeded(table, key, &first);
    EXPECT(ONCEFLIGHT_OK, onceflight_renew(table, lead, HOUR_MS));
    tell(&leader, "complete", "too-late");
    REQUIRE(kill(leader.pid, SIGCONT) == 0);
    CHECK(was(heard(&leader), "ONCEFLIGHT_E_STALE", "-"));
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(table, key));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 2, BYTES("ours")));
    CHECK(replays(table, key, 2, "ours"));
    CHECK(was(ask(&leader, "begin", key), "ONCEFLIGHT_REPLAYED", "ours"));
    peer_end(&leader);
    onceflight_table_free(table);
}

static void of_many_processes_one_leads(void)
{
    enum { PEERS = 4, ROUNDS = 10 };
    peer peers[PEERS];
    int round, i;
    for (i = 0; i < PEERS; i++)
        peer_start(&peers[i], "60000", "1");
    for (round = 0; round < ROUNDS; round++) {
        const char *key = new_key();
        char number[24] = "";
        int leads = 0;
        answer told[PEERS];
        for (i = 0; i < PEERS; i++)
            tell(&peers[i], "race", key);
        for (i = 0; i < PEERS; i++) {
            told[i] = heard(&peers[i]);
            if (strcmp(told[i].outcome, "ONCEFLIGHT_LEAD") == 0) {
                leads++;
                snprintf(number, sizeof number, "%ld", (long)peers[i].pid);
            }
        }
        CHECK(leads == 1);
        for (i = 0; i < PEERS; i++)
            CHECK(strcmp(told[i].outcome, "ONCEFLIGHT_LEAD") == 0 || strcmp(told[i].text, number) == 0);
    }
    for (i = 0; i < PEERS; i++)
        peer_end(&peers[i]);
}

/* Nothing happened, but for what the checkpoint says did: so it stays, and what it belongs to. */
static void a_checkpoint_outlives_a_cancel(void)
{
    onceflight_table *table = opened();
    const char *key = new_key();
    onceflight_request request = with_fingerprint(request_for(key), "one");
    onceflight_lead lead = lead_by(table, request);
    onceflight_lead_info info;
    EXPECT(ONCEFLIGHT_OK, onceflight_checkpoint(table, lead, BYTES("half")));
    EXPECT(ONCEFLIGHT_OK, onceflight_cancel(table, lead));
    EXPECT(ONCEFLIGHT_E_MISMATCH, probe_request(table, with_fingerprint(request, "two")));
    lead = lead_by(table, request);
    info = details_of(table, lead);
    CHECK(info.attempt == 2 && response_is(info.checkpoint, 0, "half"));
    onceflight_response_free(info.checkpoint);
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 0, NULL, 0));
    onceflight_table_free(table);
}

/* Two tables on one URL are like two processes. */
static void tables_of_one_process_share_a_store(void)
{
    onceflight_table *table = opened(), *other = opened();
    const char *key = new_key();
    onceflight_lead lead = lead_of(table, key);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, probe(other, key));
    EXPECT(ONCEFLIGHT_E_STALE, onceflight_complete(other, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead, 3, BYTES("of both")));
    CHECK(replays(other, key, 3, "of both"));
    CHECK(stats_of(table).leads == 1 && stats_of(other).leads == 0 && stats_of(other).replayed == 1);
    onceflight_table_free(table);
    onceflight_table_free(other);
}

static void child_of_a_user(void *argument)
{
    const inherited *from_parent = (const inherited *)argument;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    onceflight_table *table = NULL;
    expect_forked(from_parent);
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_queue_next(from_parent->queue, FOREVER, &event));
    if (is("sqlite:")) {
        /* SQLite itself forbids it: its locks on the file are the parent's. */
        EXPECT(ONCEFLIGHT_E_FORKED, open_with(NULL, &table));
        CHECK(table == NULL);
    } else {
        const char *key = new_key();
        table = opened();
        EXPECT(ONCEFLIGHT_OK, onceflight_complete(table, lead_of(table, key), 4, BYTES("child's")));
        CHECK(replays(table, key, 4, "child's"));
        onceflight_table_free(table);
    }
    CHECK(response_is(from_parent->response, 1, "inherited"));
    onceflight_response_free(from_parent->response);
    onceflight_queue_free(from_parent->queue);
    onceflight_table_free(from_parent->table);
}

static void a_forked_child_is_told_and_the_parent_is_unharmed(void)
{
    inherited mine = {NULL, NULL, NULL, 0};
    const char *key = new_key(), *done = new_key();
    onceflight_request request = request_for(key);
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    onceflight_lead none = 0;
    onceflight_response *response = NULL;
    caller follower;
    mine.table = opened();
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(mine.table, lead_of(mine.table, done), 1, BYTES("inherited")));
    EXPECT(ONCEFLIGHT_REPLAYED,
           onceflight_begin(mine.table, (const uint8_t *)done, strlen(done), 0, &none, &mine.response));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_new(&mine.queue));
    mine.lead = lead_of(mine.table, key);
    EXPECT(ONCEFLIGHT_PENDING, onceflight_begin_async(mine.table, &request, mine.queue, 9, &none, &response));
    await_waiting(mine.table, 1);
    caller_join_line(&follower, mine.table, key, 1);

    CHECK(broken_in_child(child_of_a_user, &mine) == 0);

    CHECK(stats_of(mine.table).in_flight == 1 && stats_of(mine.table).waiting == 2);
    EXPECT(ONCEFLIGHT_E_TIMEOUT, onceflight_queue_next(mine.queue, 0, &event));
    EXPECT(ONCEFLIGHT_OK, onceflight_complete(mine.table, mine.lead, 2, BYTES("parent's")));
    CHECK(caller_got(&follower, ONCEFLIGHT_SHARED, 2, "parent's"));
    EXPECT(ONCEFLIGHT_OK, onceflight_queue_next(mine.queue, FOREVER, &event));
    CHECK(event.tag == 9 && event.outcome == ONCEFLIGHT_SHARED && response_is(event.response, 2, "parent's"));
    onceflight_response_free(event.response);
    onceflight_response_free(mine.response);
    onceflight_queue_free(mine.queue);
    onceflight_table_free(mine.table);
}

int main(int argc, char **argv)
{
    REQUIRE(has_url(argc, argv));
    program = argv[0];
    if (argc == 4)
        return be_peer(argv + 2);
    if (!in_memory()) {
        RUN(a_response_outlives_its_process);
        RUN(a_follower_in_another_process_is_told);
        RUN(a_cancel_promotes_in_another_process);
        RUN(a_killed_leader_is_succeeded_after_its_lease);
        RUN(a_stopped_leader_that_comes_back_is_stale);
        RUN(of_many_processes_one_leads);
        RUN(a_checkpoint_outlives_a_cancel);
        RUN(tables_of_one_process_share_a_store);
    }
    RUN(a_forked_child_is_told_and_the_parent_is_unharmed);
    return check_done("durable_processes");
}
