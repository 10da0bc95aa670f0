#include "vmm/engine/kvm/kick.hpp"

#include <signal.h>
#include <sys/syscall.h>

#include <atomic>
#include <mutex>

namespace viv::kvm {
namespace {

/// The page of the CPU that this thread runs, for the signal handler.
thread_local kvm_run* running = nullptr;

int kick_signal() {
    return SIGRTMIN + 3;
}

/// KVM_RUN returns at once when immediate_exit is set, so a signal between the last look at the flags and KVM_RUN is
/// not lost.
void on_kick(int) {
    if (running) std::atomic_ref(running->immediate_exit).store(1, std::memory_order_relaxed);
}

pid_t prepare_thread() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action {};
        action.sa_handler = on_kick;
        sigemptyset(&action.sa_mask);
        VIV_ASSERT(sigaction(kick_signal(), &action, nullptr) == 0);
    });
    thread_local const pid_t self = [] {
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, kick_signal());
        pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
        return static_cast<pid_t>(syscall(SYS_gettid));
    }();
    return self;
}

}  // namespace

pid_t bind_kick(kvm_run* run) {
    running = run;
    return prepare_thread();
}

void unbind_kick() {
    running = nullptr;
}

void send_kick(pid_t thread) {
    syscall(SYS_tgkill, getpid(), thread, kick_signal());
}

void run_nothing(int vcpu) {
    const pid_t self = prepare_thread();
    sigset_t kick, before;
    sigemptyset(&kick);
    sigaddset(&kick, kick_signal());
    pthread_sigmask(SIG_BLOCK, &kick, &before);
    struct [[gnu::packed]] {
        uint32_t length = sizeof blocked;
        uint64_t blocked = ~(uint64_t{1} << (kick_signal() - 1));  // all others, while KVM_RUN lasts
    } mask;
    call(vcpu, KVM_SET_SIGNAL_MASK, &mask);
    send_kick(self);
    ioctl(vcpu, KVM_RUN, 0);
    call(vcpu, KVM_SET_SIGNAL_MASK, nullptr);
    constexpr timespec at_once{};
    while (sigtimedwait(&kick, nullptr, &at_once) > 0) continue;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Result<KickTimer> KickTimer::create() {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kick_signal();
    event._sigev_un._tid = prepare_thread();
    KickTimer timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer.timer_) != 0) return fail_errno("cannot create a timer", errno);
    timer.exists_ = true;
    return timer;
}

KickTimer::KickTimer(KickTimer&& other) noexcept
    : timer_(other.timer_), exists_(std::exchange(other.exists_, false)), period_(other.period_) {}

KickTimer::~KickTimer() {
    if (exists_) timer_delete(timer_);
}

void KickTimer::set_period(std::chrono::microseconds period) {
    if (period == period_) return;
    period_ = period;
    itimerspec spec{};
    spec.it_interval.tv_sec = period.count() / 1'000'000;
    spec.it_interval.tv_nsec = period.count() % 1'000'000 * 1000;
    spec.it_value = spec.it_interval;
    timer_settime(timer_, 0, &spec, nullptr);
}

}  // namespace viv::kvm
