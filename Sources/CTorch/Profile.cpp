// Where the time of a stretch of code goes: a tree of the engine's operations by name, as they call each other.
//
// The engine announces its operations and the nodes of backward through `at::RecordFunction`, which is what PyTorch's own
// profiler listens to; this package's calls (`guarded`) and product kernel do the same. An operation that no profile
// listens to pays for one test of a flag.

#include <ATen/record_function.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

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
  // The backward of a CUDA device runs on a thread of the engine's.
  std::mutex mutex;
  Place root;
};

Tree &tree() {
  static Tree instance;
  return instance;
}

thread_local Place *current = nullptr;
std::optional<at::CallbackHandle> listener;

struct Visit : at::ObserverContext {
  Place *place;
  Clock::time_point start;
};

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction &function) {
  auto visit = std::make_unique<Visit>();
  {
    std::lock_guard lock(tree().mutex);
    Place *parent = current ? current : &tree().root;
    const std::string_view name = function.name();
    auto found = parent->inside.find(name);
    if (found == parent->inside.end()) {
      found = parent->inside.emplace(name, std::make_unique<Place>()).first;
      found->second->parent = parent;
    }
    visit->place = current = found->second.get();
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
  current = visit->place->parent == &tree().root ? nullptr : visit->place->parent;
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
    auto *copy = strdup(text.c_str());
    if (!copy) throw std::bad_alloc();
    return copy;
  });
}
