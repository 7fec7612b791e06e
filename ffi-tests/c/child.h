/* Checks in a forked process. */
#ifndef CHILD_H
#define CHILD_H

#include <sys/wait.h>

#include "support.h"

#define CHILD_HANG_SECONDS (HANG_SECONDS / 5)

/* Runs `child` in a forked process and tells how many checks broke there, or -1 if it didn't end well. */
static inline int broken_in_child(void (*child)(void *), void *argument)
{
    int status = 0;
    pid_t pid;
    fflush(NULL);
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        check_broken = 0;
        alarm(CHILD_HANG_SECONDS);
        child(argument);
        fflush(NULL);
        _exit(check_broken > 100 ? 100 : check_broken);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What a child has of its parent's. */
typedef struct {
    onceflight_table *table;
    onceflight_queue *queue;
    onceflight_response *response;
    onceflight_lead lead;
} inherited;

/* Whatever it asks of a table of its parent's. */
static inline void expect_forked(const inherited *from_parent)
{
    const onceflight_table *table = from_parent->table;
    onceflight_lead lead = from_parent->lead, none = 77;
    onceflight_response *response = GARBAGE;
    onceflight_request request = request_for("key");
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    onceflight_stats stats = ONCEFLIGHT_STATS_INIT;
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_begin(table, BYTES("key"), FOREVER, &none, &response));
    CHECK(none == 0 && response == NULL);
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_begin(table, BYTES("other"), 0, &none, &response));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_begin_request(table, &request, &none, &response));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_begin_async(table, &request, from_parent->queue, 1, &none, &response));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_complete(table, lead, 0, NULL, 0));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_complete_for(table, lead, 0, NULL, 0, 0));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_cancel(table, lead));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_abandon(table, lead));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_decline(table, lead));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_renew(table, lead, 1));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_checkpoint(table, lead, NULL, 0));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_lead_details(table, lead, &info));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_forget(table, BYTES("key")));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_table_stats(table, &stats));
    EXPECT(ONCEFLIGHT_E_FORKED, onceflight_table_close(table));
}

#endif
