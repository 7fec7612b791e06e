// What one writes in C++ without a library, a mutex, an unordered_map and a shared_future a key:
// "cycle THREADS N"; prints nanoseconds a call.
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "flight.h"

namespace {

using Response = std::shared_ptr<const std::string>;

class Flights {
  public:
    template <typename Work>
    Response run(const std::string &key, Work work) {
        std::promise<Response> promise;
        {
            std::unique_lock<std::mutex> lock(mutex_);
            auto found = flights_.find(key);
            if (found != flights_.end()) {
                auto future = found->second;
                lock.unlock();
                return future.get();
            }
            flights_.emplace(key, promise.get_future().share());
        }
        try {
            Response response = work();
            promise.set_value(response);
            forget(key);
            return response;
        } catch (...) {
            promise.set_exception(std::current_exception());
            forget(key);
            throw;
        }
    }

  private:
    void forget(const std::string &key) {
        std::lock_guard<std::mutex> lock(mutex_);
        flights_.erase(key);
    }

    std::mutex mutex_;
    std::unordered_map<std::string, std::shared_future<Response>> flights_;
};

Flights flights;

void cycle(worker *worker) {
    const std::string response(RESPONSE, 'r');
    for (long k = 0; k < worker->n; k++) {
        std::string key(reinterpret_cast<const char *>(worker->keys[k]), KEY);
        auto got = flights.run(key, [&] { return std::make_shared<const std::string>(response); });
        if (got->size() != RESPONSE) exit(1);
    }
}

}  // namespace

int main(int count, char **arguments) {
    if (count < 4) return 2;
    printf("%.2f\n", timed(static_cast<unsigned>(atoi(arguments[2])), atol(arguments[3]), cycle));
    return 0;
}
