// A server with a thread a connection, in C++: Table::run is all there is to it.
//
//     server --port 8080 &
//     for i in 1 2 3; do curl -s localhost:8080/report & done
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include <poll.h>

#include "../c/http.h"
#include "onceflight.hpp"

namespace {

using namespace std::chrono_literals;

// Closes what it owns, whichever way it is left.
class Socket {
public:
    explicit Socket(int fd) : fd_(fd) {}
    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;
    ~Socket() { close(fd_); }
    [[nodiscard]] int fd() const { return fd_; }

private:
    int fd_;
};

const char *name(onceflight::Role role)
{
    switch (role) {
    case onceflight::Role::led: return "led";
    case onceflight::Role::shared: return "shared";
    case onceflight::Role::replayed: return "replayed";
    case onceflight::Role::bypassed: return "bypassed";
    case onceflight::Role::overtaken: return "overtaken";
    case onceflight::Role::unrecorded: return "unrecorded";
    }
    return "";
}

class Server {
public:
    explicit Server(const settings &options)
        : options_(options), table_(onceflight::Options().completed_ttl(std::chrono::milliseconds(options.window_ms)))
    {
    }

    void run()
    {
        pollfd watched[] = {{stop_descriptor(), POLLIN, 0}, {listen_on(options_.port), POLLIN, 0}};
        const Socket listener(watched[1].fd);
        while (watched[0].revents == 0) {
            if (poll(watched, 2, -1) < 0 && errno != EINTR)
                die("poll");
            const int fd = watched[1].revents != 0 ? accept(listener.fd(), nullptr, nullptr) : -1;
            if (fd >= 0)
                start(fd);
        }
        // What was accepted is answered.
        std::unique_lock guard(lock_);
        idle_.wait(guard, [this] { return connections_ == 0; });
    }

private:
    void start(int fd)
    {
        const std::lock_guard guard(lock_);
        ++connections_;
        std::thread([this, fd] {
            {
                const Socket client(fd);
                serve(client.fd());
            }
            const std::lock_guard finished(lock_);
            if (--connections_ == 0)
                idle_.notify_one();
        }).detach();
    }

    void serve(int fd)
    {
        const std::string request = read(fd);
        const auto key_len = request_key_len(request.c_str());
        if (key_len == 0)
            return respond(fd, 400, "not asked", "", 0);
        try {
            onceflight::Request key(std::string_view(request).substr(0, key_len));
            key.timeout = 30s;
            const auto answer = table_.run(key, [&] {
                char body[MAX_BODY];
                const auto len = slow_backend(request.data(), key_len, options_.delay_ms, body);
                return onceflight::Body{200, std::string(body, len)};
            });
            respond(fd, answer.status(), name(answer.role()), answer.body().data(), answer.body().size());
        } catch (const onceflight::Error &error) {
            respond(fd, error.code() == ONCEFLIGHT_E_TIMEOUT ? 504 : 503, error.name(), "", 0);
        }
    }

    static std::string read(int fd)
    {
        const timeval patience{2, 0};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        std::string request;
        char chunk[1024];
        while (request.find("\r\n\r\n") == std::string::npos && request.size() < MAX_REQUEST) {
            const auto got = recv(fd, chunk, sizeof chunk, 0);
            if (got <= 0)
                return {};
            request.append(chunk, static_cast<std::size_t>(got));
        }
        return request;
    }

    const settings options_;
    const onceflight::Table table_;
    std::mutex lock_;
    std::condition_variable idle_;
    unsigned connections_ = 0;
};

} // namespace

int main(int count, char **arguments)
{
    Server(parse_arguments(count, arguments)).run();
}
