// Where the module of a link is, for calls that follow it: see following.cpp.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <torch/custom_class.h>

namespace torchremote {

// As in jit/runtime/turns.py.
constexpr int kFlagBits = 4;
constexpr int kStreamBits = 28;
constexpr int64_t kTickets = int64_t{1} << 31;

// A link has it from when it is connected. It changes when the module is found elsewhere.
class Route : public torch::CustomClassHolder {
 public:
  // Of a stub: the parts of link/route.py's Address.
  using Address = std::tuple<int64_t, std::string, std::string, std::string, std::string, double>;

  Route(
      Address address, std::vector<c10::Device> devices, int64_t handle, std::string device, int64_t stream,
      std::optional<at::Generator> tickets)
      : address_(std::move(address)), devices_(std::move(devices)), handle_(handle), device_(std::move(device)),
        stream_(stream), tickets_(std::move(tickets)) {}

  const Address& address() const {
    return address_;
  }

  const std::string& worker() const {
    return std::get<3>(address_);
  }

  // The accelerators on which arguments and results may be.
  const std::vector<c10::Device>& devices() const {
    return devices_;
  }

  // Returns handle, device and stream as they are by now.
  std::tuple<int64_t, std::string, int64_t> reached() {
    std::lock_guard<std::mutex> lock(mutex_);
    return {handle_, device_, stream_};
  }

  // Has calls go to another module from now on.
  void exchange(int64_t handle, std::string device, int64_t stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    handle_ = handle;
    device_ = std::move(device);
    stream_ = stream;
    tickets_.reset();
    if (stream != 0) {
      tickets_ = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(stream));
    }
    is_exchanged_.store(true, std::memory_order_release);
  }

  // Whether the module is where the link knows it.
  bool is_as_linked() const {
    return !is_exchanged_.load(std::memory_order_acquire);
  }

  // Has a message go to the module, with a ticket of its own. Returns the handle. Of the arguments, the first is the
  // handle, and the last one has the flags.
  int64_t lead(std::vector<c10::IValue>& arguments) {
    std::lock_guard<std::mutex> lock(mutex_);
    arguments.front() = handle_;
    arguments.back() = with_ticket(arguments.back().toInt());
    return handle_;
  }

  // Returns the flags of a call that is made here and now.
  int64_t flags(int64_t linked) {
    if (is_as_linked()) {
      return linked;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    return with_ticket(linked);
  }

 private:
  int64_t with_ticket(int64_t flags) const {
    flags &= (1 << kFlagBits) - 1;
    if (!tickets_) {
      return flags;
    }
    auto ticket = at::empty({1}, at::kLong).random_(kTickets, tickets_).item<int64_t>();
    return flags | stream_ << kFlagBits | ticket << (kFlagBits + kStreamBits);
  }

  const Address address_;
  const std::vector<c10::Device> devices_;
  std::atomic<bool> is_exchanged_{false};
  std::mutex mutex_;
  int64_t handle_;
  std::string device_;
  int64_t stream_;
  std::optional<at::Generator> tickets_; // of the stream
};

} // namespace torchremote
