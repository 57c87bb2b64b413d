// The threads that run strands: see strand.cpp.
//
// torch has as many threads for forks as there are cores, and whoever runs a slow call keeps one until it ends. A few
// slow modules would stop all others. So strands have threads of their own: as many as torch has, and one more whenever
// a function waits and no thread has come for one during kPatience. Then all are at slow calls. When these end,
// the surplus threads end.
//
// A thread for each strand would be simpler. But each thread that computes has OpenMP start more for itself, and many
// modules with short calls need few threads.
#include "threads.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include <pthread.h>

#include <ATen/Parallel.h>
#include <c10/util/ScopeExit.h>
#include <c10/util/thread_name.h>

namespace {

using Function = std::function<void()>;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::milliseconds(5);

struct AtExit {
  ~AtExit();
};

// They are never destroyed: threads wait in them when the process ends.
class Threads {
 public:
  void run(Function function) {
    std::unique_lock<std::mutex> lock(mutex_);
    functions_.push_back(std::move(function));
    if (functions_.size() <= idle_) {
      lock.unlock();
      return any_.notify_one();
    }
    if (count_ < usual_ && start()) {
      return;
    }
    if (count_ == 0) { // no thread can be started
      try {
        at::launch(functions_.back()); // torch may have some already
        functions_.pop_back();
      } catch (const std::exception&) { // the next function that comes tries again
      }
    } else if ((has_watcher_ || start_watcher()) && std::exchange(watcher_rests_, false)) {
      all_busy_.notify_one();
    }
  }

  // Waits until nobody runs a function, and nobody will. torch does so with its threads, too: what a function needs is
  // gone when the process ends.
  void end() {
    std::unique_lock<std::mutex> lock(mutex_);
    is_over_ = true;
    any_.notify_all();
    ended_.wait(lock, [this] { return idle_ == count_; });
  }

 private:
  // Starts a thread, which is idle at first. Returns whether that could be done. Called with the lock, as all that
  // follows but `work` and `watch`.
  bool start() {
    if (is_over_) {
      return false;
    }
    try {
      std::thread([this] { work(); }).detach();
    } catch (const std::system_error&) {
      return false;
    }
    static const AtExit at_exit; // what torch makes before is there for as long as functions run
    ++count_;
    ++idle_;
    taken_ = Clock::now();
    return true;
  }

  bool start_watcher() {
    try {
      std::thread([this] { watch(); }).detach();
      has_watcher_ = true;
    } catch (const std::system_error&) { // the next function that waits tries again
    }
    return has_watcher_;
  }

  // Runs functions, as torch's threads for forks do.
  void work() {
    c10::setThreadName("tr_strands");
    at::init_num_threads();
    // Python ends a thread that comes to it when it has ended itself.
    auto leave = c10::make_scope_exit([this] {
      std::lock_guard<std::mutex> lock(mutex_);
      --count_;
      ended_.notify_all();
    });
    for (bool is_new = true; auto function = next(is_new); is_new = false) {
      function();
    }
  }

  // Returns the next function, or none if this thread shall end.
  Function next(bool is_new) {
    std::unique_lock<std::mutex> lock(mutex_);
    idle_ += is_new ? 0 : 1;
    while (functions_.empty() && !is_over_ && idle_ <= usual_) {
      any_.wait(lock);
    }
    --idle_;
    if (functions_.empty() || is_over_) {
      return nullptr;
    }
    taken_ = Clock::now();
    auto function = std::move(functions_.front());
    functions_.pop_front();
    return function;
  }

  // Starts threads while all are at slow functions.
  void watch() {
    c10::setThreadName("tr_strands_new");
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      if (functions_.size() <= idle_ || is_over_) {
        watcher_rests_ = true;
        all_busy_.wait(lock);
      } else if (auto then = taken_ + kPatience; Clock::now() < then) {
        all_busy_.wait_until(lock, then);
      } else if (!start()) {
        all_busy_.wait_for(lock, kPatience);
      }
    }
  }

  const std::size_t usual_ = at::get_num_interop_threads();
  std::mutex mutex_;
  std::condition_variable any_, all_busy_, ended_;
  std::deque<Function> functions_; // that wait for a thread
  std::size_t count_ = 0;          // of threads
  std::size_t idle_ = 0;           // those of them that run no function
  Clock::time_point taken_;        // when a thread last took a function
  bool has_watcher_ = false, watcher_rests_ = false;
  bool is_over_ = false; // the process ends
};

std::atomic<Threads*> threads{nullptr};
std::atomic<int> forked{0};

// Has a process that was just forked start its own.
const int registered = pthread_atfork(nullptr, nullptr, [] {
  ++forked;
  threads.store(nullptr);
});

Threads& threads_here() {
  auto* found = threads.load();
  if (found == nullptr) {
    auto made = std::make_unique<Threads>();
    if (threads.compare_exchange_strong(found, made.get())) {
      found = made.release();
    }
  }
  return *found;
}

AtExit::~AtExit() {
  if (auto* found = threads.load()) {
    found->end();
  }
}

} // namespace

void torchremote::run_in_thread(std::function<void()> function) {
  threads_here().run(std::move(function));
}

int torchremote::forks() {
  return forked.load(std::memory_order_relaxed);
}
