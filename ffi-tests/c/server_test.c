/* Runs an example server as a program of its own and asks it, many clients at once: server_test PROGRAM LED, where LED
 * is how many of identical requests say that they led. An event loop's leader is a follower of its own flight: 0. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "support.h"

#define CLIENTS 32

static const char *program;
static int expected_led;
static pid_t server;
static struct sockaddr_in address;

static void start_server(void)
{
    char line[128] = "";
    unsigned port = 0;
    FILE *output;
    int channel[2];
    REQUIRE(pipe(channel) == 0);
    fflush(NULL);
    server = fork();
    REQUIRE(server >= 0);
    if (server == 0) {
        dup2(channel[1], STDOUT_FILENO);
        close(channel[0]);
        close(channel[1]);
        /* The window keeps a client that a busy machine starts late from running the work again. */
        execl(program, program, "--port", "0", "--delay-ms", "500", "--window-ms", "600000", (char *)NULL);
        perror(program);
        _exit(127);
    }
    close(channel[1]);
    output = fdopen(channel[0], "r");
    REQUIRE(output != NULL && fgets(line, sizeof line, output) != NULL);
    REQUIRE(sscanf(line, "listening on 127.0.0.1:%u", &port) == 1 && port != 0);
    fclose(output);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)port);
}

static int connected(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

typedef struct {
    pthread_t thread;
    pthread_barrier_t *start;
    const char *request;
    char answer[1024];
} client;

static void *client_main(void *argument)
{
    client *self = (client *)argument;
    size_t len = 0, size = strlen(self->request);
    ssize_t got;
    int fd = connected();
    memset(self->answer, 0, sizeof self->answer);
    if (self->start != NULL)
        pthread_barrier_wait(self->start);
    if (fd < 0)
        return NULL;
    if (send(fd, self->request, size, MSG_NOSIGNAL) == (ssize_t)size) {
        while (len < sizeof self->answer - 1 &&
               (got = recv(fd, self->answer + len, sizeof self->answer - 1 - len, 0)) > 0)
            len += (size_t)got;
    }
    close(fd);
    return NULL;
}

static const char *ask(client *self, const char *request)
{
    self->start = NULL;
    self->request = request;
    client_main(self);
    return self->answer;
}

static const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");
    return end == NULL ? "" : end + 4;
}

static void identical_requests_run_the_work_once(void)
{
    static client clients[CLIENTS];
    pthread_barrier_t start;
    int i, led = 0, shared = 0, replayed = 0;
    pthread_barrier_init(&start, NULL, CLIENTS);
    for (i = 0; i < CLIENTS; i++) {
        clients[i].start = &start;
        clients[i].request = "GET /same HTTP/1.1\r\nHost: localhost\r\n\r\n";
        REQUIRE(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) == 0);
    }
    for (i = 0; i < CLIENTS; i++) {
        REQUIRE(pthread_join(clients[i].thread, NULL) == 0);
        CHECK(strncmp(clients[i].answer, "HTTP/1.1 200 ", 13) == 0);
        CHECK(strcmp(body_of(clients[i].answer), "run 1 of GET /same\n") == 0);
        led += strstr(clients[i].answer, "\r\nOnceflight: led\r\n") != NULL;
        shared += strstr(clients[i].answer, "\r\nOnceflight: shared\r\n") != NULL;
        replayed += strstr(clients[i].answer, "\r\nOnceflight: replayed\r\n") != NULL;
    }
    CHECK(led == expected_led && shared > 0 && led + shared + replayed == CLIENTS);
    pthread_barrier_destroy(&start);
}

static void other_requests_run_on_their_own(void)
{
    client one, two;
    CHECK(strcmp(body_of(ask(&one, "GET /one HTTP/1.0\r\n\r\n")), "run 2 of GET /one\n") == 0);
    CHECK(strcmp(body_of(ask(&two, "GET /two HTTP/1.0\r\n\r\n")), "run 3 of GET /two\n") == 0);
    CHECK(strcmp(body_of(ask(&two, "GET /one HTTP/1.0\r\n\r\n")), "run 2 of GET /one\n") == 0);
    CHECK(strstr(two.answer, "\r\nOnceflight: replayed\r\n") != NULL);
}

static void bad_requests_are_refused(void)
{
    client bad;
    CHECK(strncmp(ask(&bad, "nonsense\r\n\r\n"), "HTTP/1.1 400 ", 13) == 0);
    CHECK(strncmp(ask(&bad, "GET nonsense HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 ", 13) == 0);
}

static void a_client_that_leaves_disturbs_nobody(void)
{
    static const char request[] = "GET /left HTTP/1.1\r\n\r\n";
    client stays;
    int fd = connected();
    REQUIRE(fd >= 0 && send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1);
    close(fd);
    CHECK(strcmp(body_of(ask(&stays, request)), "run 4 of GET /left\n") == 0);
}

static void sigterm_stops_it_cleanly(void)
{
    int status = -1, idle = connected();
    REQUIRE(idle >= 0);
    REQUIRE(kill(server, SIGTERM) == 0 && waitpid(server, &status, 0) == server);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(idle);
    CHECK(connected() < 0);
}

int main(int count, char **arguments)
{
    REQUIRE(count == 3);
    program = arguments[1];
    expected_led = atoi(arguments[2]);
    start_server();
    RUN(identical_requests_run_the_work_once);
    RUN(other_requests_run_on_their_own);
    RUN(bad_requests_are_refused);
    RUN(a_client_that_leaves_disturbs_nobody);
    RUN(sigterm_stops_it_cleanly);
    return check_done(strrchr(program, '/') == NULL ? program : strrchr(program, '/') + 1);
}
