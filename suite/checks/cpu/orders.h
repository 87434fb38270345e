// Runs a few threads in every order of their operations on atomics, as coroutines of one thread, with what C++ lets a
// load return: any store that is not older than one that the thread knows of. Finds threads that wait for ever, and
// accesses to data that is not atomic, of which neither happens before the other. `#define std checked` has a header
// use it.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

namespace checked {

constexpr int kThreads = 3, kAtomics = 2, kNone = -1;

// What happened before a point of a thread: of each thread its first operations, of each atomic its first stores.
struct Past {
  std::array<uint32_t, kThreads> operations{};
  std::array<uint32_t, kAtomics> stores{};

  void add(const Past& other) {
    for (int i = 0; i < kThreads; ++i) operations[i] = std::max(operations[i], other.operations[i]);
    for (int i = 0; i < kAtomics; ++i) stores[i] = std::max(stores[i], other.stores[i]);
  }
};

struct Store {
  int64_t value;
  Past released;  // what a thread knows that acquires it
};

struct Thread {
  enum State { kReady, kAsleep, kDone };

  State state = kReady;
  Past past;
  int of_load = kNone;     // the atomic, if the last operation was a load
  int repeats = 0;         // loads of the same store since
  bool needs_new = false;  // spins until there is a store that it has not seen
  uint64_t seen = 0;       // digest of what its loads returned, which decides what it does next
  ucontext_t context;
};

// One choice among several in a run.
struct Choice {
  uint32_t chosen, options;
};

class Model {
 public:
  // Every order of body(thread) on some threads; prepare() begins each. repeats: loads of one store that a loop may
  // make before it has to see another. may_sleep: whether a thread may sleep; no time passes. Returns what goes wrong
  // in one order, or "".
  template <class Prepare, class Body>
  std::string explore(int threads, int repeats, bool may_sleep, const Prepare& prepare, const Body& body) {
    count_ = threads;
    repeats_ = repeats;
    may_sleep_ = may_sleep;
    known_.clear();
    choices_.clear();
    do {
      threads_.fill({});
      stores_.fill({});
      atomics_ = 0;
      next_choice_ = 0;
      data_.clear();
      failure_.clear();
      prepare();
      run(body);
      if (!failure_.empty()) return failure_;
    } while (next_order());
    return "";
  }

  size_t states() const { return known_.size(); }

  int add_atomic(int64_t value) {
    stores_[atomics_] = {{value, {}}};
    return atomics_++;
  }

  int64_t load(int atomic, std::memory_order order) {
    Thread& me = threads_[current_];
    const bool again = me.of_load == atomic;
    if (again && me.repeats < repeats_) {  // nothing else happens meanwhile
      ++me.repeats;
      return stores_[atomic][me.past.stores[atomic]].value;
    }
    me.needs_new = again;
    yield();
    me.needs_new = false;
    const int64_t value = load_now(atomic, order, again);
    me.of_load = atomic;
    me.repeats = 0;
    return value;
  }

  void store(int atomic, int64_t value, std::memory_order order) {
    begin();
    add_store(atomic, value, order, {});
  }

  int64_t add(int atomic, int64_t value, std::memory_order order) {
    begin();
    Thread& me = threads_[current_];
    const Store last = stores_[atomic].back();
    if (acquires(order)) me.past.add(last.released);
    add_store(atomic, last.value + value, order, last.released);
    see(last.value);
    return last.value;
  }

  void wait(int atomic, int64_t old, std::memory_order order) {
    Thread& me = threads_[current_];
    begin();
    while (load_now(atomic, order, false) == old) {
      if (!may_sleep_) fail("sleep");
      if (stores_[atomic].back().value == old) {
        me.state = Thread::kAsleep;
        yield();
      }
      // It may have been woken for a store that it has seen. A newer one it sees at some time.
      me.past.stores[atomic] += me.past.stores[atomic] + 1 < stores_[atomic].size();
    }
  }

  void wake_all() {
    begin();
    for (Thread& thread : threads_) {
      if (thread.state == Thread::kAsleep) thread.state = Thread::kReady;
    }
  }

  // Accesses of data that is not atomic, by its number.
  void access(size_t number, bool writes) {
    if (number >= data_.size()) data_.resize(number + 1);
    Thread& me = threads_[current_];
    me.of_load = kNone;  // what follows is no loop that only loads
    Accesses& all = data_[number];
    for (int i = 0; i < count_; ++i) {
      const bool unknown = all.writes[i] > me.past.operations[i] || (writes && all.reads[i] > me.past.operations[i]);
      if (i != current_ && unknown) fail("race");
    }
    (writes ? all.writes : all.reads)[current_] = me.past.operations[current_];
  }

  void fail(const char* what) {
    failure_ = what;
    swapcontext(&threads_[current_].context, &scheduler_);
  }

 private:
  // Of each thread the number of operations up to its last access.
  struct Accesses {
    std::array<uint32_t, kThreads> reads{}, writes{};
  };

  static bool acquires(std::memory_order order) {
    return order != std::memory_order_relaxed && order != std::memory_order_release;
  }
  static bool releases(std::memory_order order) {
    return order != std::memory_order_relaxed && order != std::memory_order_acquire;
  }

  template <class Body>
  void run(const Body& body) {
    static const Body* entry;
    entry = &body;
    for (int i = 0; i < count_; ++i) {
      Thread& thread = threads_[i];
      thread.past.operations[i] = 1;
      getcontext(&thread.context);
      thread.context.uc_stack.ss_sp = stacks_[i].data();
      thread.context.uc_stack.ss_size = stacks_[i].size();
      thread.context.uc_link = &scheduler_;
      const auto start = +[](int number) {
        (*entry)(number);
        model().threads_[number].state = Thread::kDone;
      };
      makecontext(&thread.context, reinterpret_cast<void (*)()>(start), 1, i);
    }
    while (failure_.empty()) {
      std::vector<int> ready;
      int done = 0;
      for (int i = 0; i < count_; ++i) {
        const Thread& thread = threads_[i];
        done += thread.state == Thread::kDone;
        const bool spins = thread.needs_new && thread.past.stores[thread.of_load] + 1 == stores_[thread.of_load].size();
        if (thread.state == Thread::kReady && !spins) ready.push_back(i);
      }
      if (done == count_) return;
      if (ready.empty()) {
        failure_ = "hang";
        return;
      }
      // A state from which all orders are known; choices made before come from there.
      if (next_choice_ == choices_.size() && !known_.insert(digest()).second) return;
      current_ = ready[choose(ready.size())];
      swapcontext(&scheduler_, &threads_[current_].context);
    }
  }

  // Waits for this thread's turn.
  void yield() {
    Thread& me = threads_[current_];
    swapcontext(&me.context, &scheduler_);
    ++me.past.operations[current_];
  }

  void begin() {
    yield();
    threads_[current_].of_load = kNone;
  }

  int64_t load_now(int atomic, std::memory_order order, bool newer) {
    Thread& me = threads_[current_];
    uint32_t& known = me.past.stores[atomic];
    known += newer;
    known += choose(stores_[atomic].size() - known);
    const Store& read = stores_[atomic][known];
    if (acquires(order)) me.past.add(read.released);
    see(read.value);
    return read.value;
  }

  // before: what was released by the stores that this one continues.
  void add_store(int atomic, int64_t value, std::memory_order order, Past before) {
    Thread& me = threads_[current_];
    me.past.stores[atomic] = stores_[atomic].size();
    if (releases(order)) before.add(me.past);
    stores_[atomic].push_back({value, before});
    ++me.past.operations[current_];  // what follows is not released
  }

  uint32_t choose(uint32_t options) {
    if (next_choice_ == choices_.size()) choices_.push_back({0, options});
    return choices_[next_choice_++].chosen;
  }

  // Goes on to the next order; false after the last.
  bool next_order() {
    while (!choices_.empty() && choices_.back().chosen + 1 == choices_.back().options) choices_.pop_back();
    if (choices_.empty()) return false;
    ++choices_.back().chosen;
    return true;
  }

  void see(int64_t value) { threads_[current_].seen = mix(threads_[current_].seen, value); }

  static uint64_t mix(uint64_t digest, uint64_t value) {
    digest = (digest ^ value) * 0x9e3779b97f4a7c15;
    return digest ^ digest >> 29;
  }

  static uint64_t mix(uint64_t digest, const Past& past) {
    for (const uint32_t n : past.operations) digest = mix(digest, n);
    for (const uint32_t n : past.stores) digest = mix(digest, n);
    return digest;
  }

  uint64_t digest() const {
    uint64_t digest = 0;
    for (const Thread& thread : threads_) {
      for (const uint64_t n : {uint64_t(thread.state), uint64_t(thread.of_load + 1), uint64_t(thread.repeats)}) {
        digest = mix(digest, n);
      }
      digest = mix(mix(digest, thread.seen + thread.needs_new), thread.past);
    }
    for (const std::vector<Store>& stores : stores_) {
      for (const Store& store : stores) digest = mix(mix(digest, store.value), store.released);
    }
    for (const Accesses& all : data_) {
      for (int i = 0; i < kThreads; ++i) digest = mix(mix(digest, all.reads[i]), all.writes[i]);
    }
    return digest;
  }

 public:
  static Model& model() {
    static Model model;
    return model;
  }

 private:
  int count_ = 0, repeats_ = 0, current_ = 0, atomics_ = 0;
  bool may_sleep_ = true;
  std::array<Thread, kThreads> threads_;
  std::array<std::array<char, 1 << 16>, kThreads> stacks_;
  std::array<std::vector<Store>, kAtomics> stores_;
  std::vector<Accesses> data_;
  std::vector<Choice> choices_;
  size_t next_choice_ = 0;
  std::unordered_set<uint64_t> known_;
  std::string failure_;
  ucontext_t scheduler_;
};

// What headers use of std.

using std::memory_order, std::memory_order_relaxed, std::memory_order_acquire, std::memory_order_release,
    std::memory_order_acq_rel, std::memory_order_seq_cst, std::thread;

template <class T>
class atomic {
 public:
  atomic(T value) : number_(Model::model().add_atomic(value)) {}
  T load(memory_order order = memory_order_seq_cst) const { return T(Model::model().load(number_, order)); }
  void store(T value, memory_order order = memory_order_seq_cst) { Model::model().store(number_, value, order); }
  T fetch_add(T value, memory_order order = memory_order_seq_cst) {
    return T(Model::model().add(number_, value, order));
  }
  void wait(T old, memory_order order = memory_order_seq_cst) const { Model::model().wait(number_, old, order); }
  void notify_all() { Model::model().wake_all(); }

 private:
  const int number_;
};

namespace this_thread {
inline void yield() {}
}  // namespace this_thread

namespace chrono {
using std::chrono::microseconds;

// Stands still: a wait that spins for no time is at its end, any other never.
struct steady_clock {
  using time_point = std::chrono::steady_clock::time_point;
  static time_point now() { return {}; }
};
}  // namespace chrono

}  // namespace checked
