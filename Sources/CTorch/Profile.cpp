// Where the time of a stretch of code goes: a tree of the engine's operations by name, as they call each other.
//
// The engine announces its operations and the nodes of backward through `at::RecordFunction`, which is what PyTorch's own
// profiler listens to; this package's calls (`guarded`) and its products do the same. An operation that no profile
// listens to pays for one test of a flag.

#include <ATen/record_function.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "Bridge.h"

using namespace graft;

namespace {
using Clock = std::chrono::steady_clock;

/// One place in the tree.
struct Place {
  Place *parent = nullptr;
  std::map<std::string, std::unique_ptr<Place>, std::less<>> inside;
  int64_t calls = 0, nanoseconds = 0;
};

struct Tree {
  std::mutex mutex;
  Place root;
  // The backward of a CUDA device runs on a thread of the engine's, while the thread that asked for it waits in `ct_backward`: what is not
  // inside of another place there is inside of where that one waits.
  std::thread::id asking;
  Place *waiting = nullptr;
};

Tree &tree() {
  static Tree instance;
  return instance;
}

thread_local Place *current = nullptr;
std::optional<at::CallbackHandle> listener;

struct Visit : at::ObserverContext {
  Place *place;
  /// Of this thread before.
  Place *outside;
  Clock::time_point start;
};

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction &function) {
  auto visit = std::make_unique<Visit>();
  {
    std::lock_guard lock(tree().mutex);
    const bool isAsking = std::this_thread::get_id() == tree().asking;
    Place *parent = current ? current : !isAsking && tree().waiting ? tree().waiting : &tree().root;
    const std::string_view name = function.name();
    auto found = parent->inside.find(name);
    if (found == parent->inside.end()) {
      found = parent->inside.emplace(name, std::make_unique<Place>()).first;
      found->second->parent = parent;
    }
    visit->outside = std::exchange(current, found->second.get());
    visit->place = current;
    if (isAsking) tree().waiting = current;
  }
  visit->start = Clock::now();
  return visit;
}

void leave(const at::RecordFunction &, at::ObserverContext *context) {
  const auto end = Clock::now();
  auto *visit = static_cast<Visit *>(context);
  std::lock_guard lock(tree().mutex);
  visit->place->calls += 1;
  visit->place->nanoseconds += std::chrono::duration_cast<std::chrono::nanoseconds>(end - visit->start).count();
  current = visit->outside;
  if (std::this_thread::get_id() == tree().asking) tree().waiting = current;
}

/// A line for each place: the names from the root separated by semicolons, the calls, the nanoseconds in none of the
/// places inside it.
void describe(const Place &place, const std::string &path, std::string &text) {
  int64_t own = place.nanoseconds;
  for (const auto &[name, child] : place.inside) {
    own -= child->nanoseconds;
    describe(*child, path.empty() ? name : path + ";" + name, text);
  }
  if (!path.empty()) text += path + "\t" + std::to_string(place.calls) + "\t" + std::to_string(own) + "\n";
}
}  // namespace

int ct_profile_start(void) {
  return status([] {
    TORCH_CHECK(!listener, "a profile is already being made");
    tree().asking = std::this_thread::get_id();
    tree().waiting = current;
    listener = at::addThreadLocalCallback(
        at::RecordFunctionCallback(enter, leave)
            .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE}));
  });
}

void ct_profile_pause(void) {
  if (listener) at::removeCallback(*listener);
  listener.reset();
}

char *ct_profile_take(void) {
  return guarded<char *>(nullptr, [] {
    std::lock_guard lock(tree().mutex);
    std::string text;
    describe(tree().root, "", text);
    tree().root.inside.clear();
    tree().waiting = nullptr;
    auto *copy = strdup(text.c_str());
    if (!copy) throw std::bad_alloc();
    return copy;
  });
}
