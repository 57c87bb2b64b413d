// Strands: each runs TorchScript functions one after the other, in the order in which they came. See strand.cpp.
#pragma once

#include "threads.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include <ATen/core/ivalue.h>
#include <c10/util/Logging.h>
#include <torch/custom_class.h>

namespace torchremote {

using Clock = std::chrono::steady_clock;
using Task = std::function<void()>;

// For how long a thread runs the calls of one strand before others have it.
constexpr auto kSlice = std::chrono::milliseconds(1);

class Strand : public torch::CustomClassHolder {
 public:
  ~Strand() override {
    leave_to_parent();
  }

  // Queues a task, which a thread runs.
  void launch(Task task) {
    auto lock = locked();
    tasks_.push_back(std::move(task));
    if (!std::exchange(taken_, true)) {
      lock.unlock();
      hand_over();
    }
  }

  // Runs a task if the strand is idle, and what follows until `ended`; otherwise queues it.
  void run(Task task, c10::ivalue::Future& ended) {
    {
      auto lock = locked();
      if (std::exchange(taken_, true)) {
        tasks_.push_back(std::move(task));
        return;
      }
    }
    run_one(std::exchange(task, nullptr)); // it has the arguments
    run_tasks([&ended] { return ended.completed(); });
  }

 private:
  friend class Turn;

  std::unique_lock<std::mutex> locked() {
    leave_to_parent();
    return std::unique_lock<std::mutex>(mutex_);
  }

  // In a forked process, begins anew: threads of the parent have the strand, wait in it, and answer its calls there.
  void leave_to_parent() {
    if (forks_ != forks()) {
      forks_ = forks();
      taken_ = stays_taken_ = false;
      new (&mutex_) std::mutex;
      new (&changed_) std::condition_variable;
      new (&tasks_) std::deque<Task>;
    }
  }

  // Runs tasks until there are none, and then leaves the strand idle; or until `enough`, and then hands it over.
  template <class Enough> void run_tasks(Enough enough) {
    for (;;) {
      Task task;
      {
        auto lock = locked();
        if (std::exchange(stays_taken_, false)) {
          return;
        }
        if (tasks_.empty()) {
          taken_ = false;
          return;
        }
        if (!enough()) {
          task = std::move(tasks_.front());
          tasks_.pop_front();
        }
      }
      if (!task) {
        return hand_over();
      }
      run_one(std::move(task));
    }
  }

  static void run_one(Task task) {
    try {
      task();
    } catch (const std::exception& error) { // of a callback of a call's result; torch says that, too, and goes on
      LOG(ERROR) << "torchremote: a call in turn raised: " << error.what();
    }
  }

  // Has a thread go on. The caller has the strand.
  void hand_over() {
    auto self = c10::intrusive_ptr<Strand>::reclaim_copy(this);
    run_in_thread(
        [self] { self->run_tasks([until = Clock::now() + kSlice] { return Clock::now() >= until; }); });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool taken_ = false;       // somebody runs tasks, or is about to
  bool stays_taken_ = false; // whoever runs tasks has to stop, because a Turn has the strand
  int forks_ = forks();
};

// A turn of Python in a strand: nothing else runs there from when it has come until it is let go, or dropped.
class Turn : public torch::CustomClassHolder {
 public:
  explicit Turn(c10::intrusive_ptr<Strand> strand) : strand_(std::move(strand)) {}

  ~Turn() override {
    let_go();
  }

  // Waits for so many seconds at most until all that was queued before has run or waits. Returns whether the turn has
  // come. If not, it keeps its place.
  bool comes(double seconds) {
    auto lock = strand_->locked();
    if (!state_) {
      state_ = std::make_shared<State>();
      if (!std::exchange(strand_->taken_, true)) {
        state_->has_come = true;
      } else {
        strand_->tasks_.emplace_back([strand = strand_.get(), state = state_] {
          auto lock = strand->locked();
          if (!state->is_over) {
            state->has_come = strand->stays_taken_ = true;
            strand->changed_.notify_all();
          }
        });
      }
    }
    auto limit = std::chrono::duration<double>(seconds);
    return strand_->changed_.wait_for(lock, limit, [this] { return state_->has_come; });
  }

  // Gives the strand back, or the place in its queue.
  void let_go() {
    if (auto state = std::exchange(state_, nullptr)) {
      auto lock = strand_->locked();
      state->is_over = true;
      if (state->has_come) {
        lock.unlock();
        strand_->hand_over();
      }
    }
  }

 private:
  struct State {
    bool has_come = false, is_over = false;
  };
  const c10::intrusive_ptr<Strand> strand_;
  std::shared_ptr<State> state_; // from when it is waited for until it is let go
};

} // namespace torchremote
