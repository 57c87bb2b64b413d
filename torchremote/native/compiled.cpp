// A class of TorchScript that runs a package of AOTInductor, for owners of compiled modules.
//
// A module holds one Package for each graph. Its generated code compares the arguments before it calls `run`: a package
// reads memory as it was compiled to, whatever comes. torch's loader takes no GIL, and has a model for each call at
// once.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/tempfile.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/custom_class.h>
#include <torch/version.h>

namespace {

// Calls that run at the same time, as many as TensorPipe has threads. Others wait for one of them.
constexpr size_t at_once = 16;

// The names that Linux has for the instructions of this processor. Packages are compiled for all of them.
std::set<std::string> instructions() {
  static const char* kinds[] = {
      "sse", "ssse", "avx", "amx", "fma", "bmi", "f16c", "abm", "popcnt", "movbe", "gfni", "vaes", "vpclmul", "asimd",
      "sve"};
  std::set<std::string> found;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) {
      continue;
    }
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) {
      for (const char* kind : kinds) {
        if (word.rfind(kind, 0) == 0) {
          found.insert(word);
        }
      }
    }
    break;
  }
  return found;
}

std::string joined(const std::set<std::string>& words) {
  std::string text;
  for (const auto& word : words) {
    text += (text.empty() ? "" : " ") + word;
  }
  return text;
}

// Returns the bytes of an archive in memory that can be read here: torch.jit.load moves them to its `map_location`.
at::Tensor readable(const at::Tensor& archive) {
  TORCH_CHECK(!archive.is_meta(), "torchremote: a compiled module cannot be loaded to meta, which has no data");
  return archive.cpu().contiguous();
}

// torch's loader has a private field for the folder into which it unpacks a package, and deletes the folder when it
// ends. A process that exits does not end it. An explicit instantiation may name private fields.
using Loader = torch::inductor::AOTIModelPackageLoader;
std::string folder_of(const Loader& loader);
template <std::string Loader::*field> struct Folder {
  friend std::string folder_of(const Loader& loader) {
    return loader.*field;
  }
};
template struct Folder<&Loader::temp_dir_>;

// The folders of the packages of this process. Code may be read from there as long as a package is in use.
class Folders {
 public:
  void add(const std::string& folder) {
    std::lock_guard<std::mutex> lock(mutex_);
    folders_.emplace(folder, getpid());
  }

  void forget(const std::string& folder) {
    std::lock_guard<std::mutex> lock(mutex_);
    folders_.erase(folder);
  }

  void remove_all() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [folder, process] : folders_) {
      if (process == getpid()) { // a forked child knows its parent's folders
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
      }
    }
  }

 private:
  std::mutex mutex_;
  std::map<std::string, pid_t> folders_; // with the process that unpacked it
};

// They are never destroyed: threads may still use packages when the process ends.
Folders& folders() {
  static auto* folders = new Folders;
  return *folders;
}

const struct AtExit {
  ~AtExit() {
    folders().remove_all();
  }
} at_exit;

struct Package : torch::CustomClassHolder {
  // torch, instructions, device, archive
  using State = std::tuple<std::string, std::string, std::string, at::Tensor>;

  // `archive`: the bytes of the file that AOTInductor wrote. `needed`: the instructions of the processor that compiled.
  Package(const at::Tensor& archive, const std::string& device, std::string needed = joined(instructions()))
      : archive_(readable(archive)), device_(device), needed_(std::move(needed)) {
    auto file = c10::make_tempfile("torchremote-");
    std::ofstream stream(file.name, std::ios::binary);
    stream.write(static_cast<const char*>(archive_.const_data_ptr()), archive_.numel());
    stream.close();
    TORCH_CHECK(
        stream, "torchremote: ", archive_.numel(), " bytes of the module cannot be written to ", file.name,
        "; make room there, or name another folder in TMPDIR");
    try {
      check_device(file.name);
      loader_ = std::make_unique<Loader>(
          file.name, "model", /*run_single_threaded=*/false, at_once, device_.index());
      folders().add(folder_of(*loader_));
    } catch (const c10::Error& error) {
      refuse(error.what_without_backtrace());
    } catch (const std::exception& error) {
      refuse(error.what());
    }
  }

  ~Package() override {
    if (getpid() != process_) {
      loader_.release(); // the folder is its parent's
    } else if (loader_) {
      folders().forget(folder_of(*loader_));
    }
  }

  // Runs it with contiguous tensors on its device. Without gradients: it has none.
  std::vector<at::Tensor> run(std::vector<at::Tensor> inputs) {
    at::NoGradGuard without_gradients;
    for (auto& input : inputs) {
      input = input.contiguous().resolve_conj().resolve_neg();
    }
    return loader_->boxed_run(std::move(inputs));
  }

  State state() const {
    return {TORCH_VERSION, needed_, device_.str(), archive_};
  }

  static c10::intrusive_ptr<Package> from_state(State state) {
    const auto& [torch, needed, device, archive] = state;
    TORCH_CHECK(
        torch == TORCH_VERSION,
        "torchremote: the module was compiled with torch ",
        torch,
        ", and this is ",
        TORCH_VERSION,
        "; compile it again");
    std::set<std::string> missing;
    auto here = instructions();
    std::istringstream words(needed);
    for (std::string word; words >> word;) {
      if (here.count(word) == 0) {
        missing.insert(word);
      }
    }
    TORCH_CHECK(
        missing.empty(),
        "torchremote: the module was compiled for a processor with ", joined(missing), "; compile it on one as this");
    return c10::make_intrusive<Package>(archive, device, needed);
  }

 private:
  // Checks that what the package runs on is here. A loader that finds out leaves what it has unpacked.
  void check_device(const std::string& file) const {
    auto kind = Loader::load_metadata_from_package(file, "model")["AOTI_DEVICE_KEY"];
    TORCH_CHECK(torch::inductor::getAOTIModelRunnerRegistry().count(kind) != 0, "there is no device ", kind);
    if (!device_.is_cpu()) {
      auto count = c10::impl::VirtualGuardImpl(device_.type()).deviceCount();
      TORCH_CHECK(device_.index() < count, "there are ", int(count), " devices ", kind);
    }
  }

  [[noreturn]] void refuse(const char* why) const {
    TORCH_CHECK(
        false, "torchremote: the module was compiled for ", device_.str(), ", and cannot be loaded: ", why);
  }

  const pid_t process_ = getpid();
  at::Tensor archive_;
  c10::Device device_;
  std::string needed_; // of the processor that compiled it, also if this one saves it again
  std::unique_ptr<Loader> loader_;
};

TORCH_LIBRARY_FRAGMENT(torchremote_native, library) {
  library.class_<Package>("Package")
      .def(torch::init<at::Tensor, std::string>())
      .def("run", &Package::run)
      .def_pickle(
          [](const c10::intrusive_ptr<Package>& package) { return package->state(); },
          [](Package::State state) { return Package::from_state(std::move(state)); });
}

} // namespace
