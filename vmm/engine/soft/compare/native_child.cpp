// fuzz-cpu-child FD: executes the cases of a batch on the host's processor, one instruction each. It lives in its
// signal handler: the signal that ends a case stores its result, and the return from the handler starts the next one. A
// program of its own, so that little else is mapped where cases are to fault.
#include <linux/futex.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "vmm/engine/soft/compare/native_case.hpp"

using namespace viv::soft_test;

namespace {

SharedBatch* shared = nullptr;
uint32_t batch = 0;
int64_t running = -1;

long futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
    return syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

}  // namespace

extern "C" {
/// Segment registers between the assembly below and the handler.
struct Segments {
    uint16_t es, ds, fs, gs;
    uint64_t fs_base, gs_base;
};
Segments viv_seen, viv_next;
uint64_t viv_own_fs_base;
void viv_signal_entry(int, siginfo_t*, void*);
void viv_signal(int, siginfo_t*, ucontext_t* context);
}

// What a case may have left in the segment registers and flags has to go before C++ can run.
asm(R"(
    .text
    .globl viv_signal_entry
viv_signal_entry:
    movw %es, viv_seen(%rip)
    movw %ds, viv_seen+2(%rip)
    movw %fs, viv_seen+4(%rip)
    movw %gs, viv_seen+6(%rip)
    rdfsbase %rax
    movq %rax, viv_seen+8(%rip)
    rdgsbase %rax
    movq %rax, viv_seen+16(%rip)
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq viv_own_fs_base(%rip), %rax
    wrfsbase %rax
    pushq $2
    popfq
    subq $8, %rsp
    call viv_signal
    addq $8, %rsp
    movw viv_next(%rip), %ax
    movw %ax, %es
    movw viv_next+2(%rip), %ax
    movw %ax, %ds
    movw viv_next+4(%rip), %ax
    movw %ax, %fs
    movw viv_next+6(%rip), %ax
    movw %ax, %gs
    movq viv_next+8(%rip), %rax
    wrfsbase %rax
    movq viv_next+16(%rip), %rax
    wrgsbase %rax
    ret
)");

namespace {

constexpr int general[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

void store(const ucontext_t& context, CpuImage& out) {
    const auto& g = context.uc_mcontext.gregs;
    for (unsigned n = 0; n < 16; ++n) out.gpr[n] = static_cast<uint64_t>(g[general[n]]);
    out.rip = static_cast<uint64_t>(g[REG_RIP]);
    out.rflags = static_cast<uint64_t>(g[REG_EFL]);
    const auto packed = static_cast<uint64_t>(g[REG_CSGSFS]);
    out.selectors = {
        viv_seen.es, static_cast<uint16_t>(packed), static_cast<uint16_t>(packed >> 48), viv_seen.ds, viv_seen.fs,
        viv_seen.gs};
    out.fs_base = viv_seen.fs_base;
    out.gs_base = viv_seen.gs_base;
    out.vector = static_cast<uint32_t>(g[REG_TRAPNO]);
    out.error = static_cast<uint32_t>(g[REG_ERR]);
    out.cr2 = static_cast<uint64_t>(g[REG_CR2]);
    std::memcpy(out.xsave.data(), context.uc_mcontext.fpregs, out.xsave.size());
    // Bytes 464 to 511 belong to the kernel. Components in their initial state need not be in the area.
    std::memset(out.xsave.data() + 416, 0, 96);
    uint64_t present = 0;
    std::memcpy(&present, out.xsave.data() + 512, 8);
    if (!(present & 2)) std::memset(out.xsave.data() + 160, 0, 256);
    if (!(present & 4)) std::memset(out.xsave.data() + 576, 0, 256);
}

void load(const CpuImage& in, ucontext_t& context) {
    auto& g = context.uc_mcontext.gregs;
    for (unsigned n = 0; n < 16; ++n) g[general[n]] = static_cast<greg_t>(in.gpr[n]);
    g[REG_RIP] = static_cast<greg_t>(in.rip);
    g[REG_EFL] = static_cast<greg_t>(in.rflags);
    g[REG_CSGSFS] = static_cast<greg_t>(uint64_t{in.selectors[1]} | uint64_t{in.selectors[2]} << 48);
    viv_next = {in.selectors[0], in.selectors[3], in.selectors[4], in.selectors[5], in.fs_base, in.gs_base};
    auto* area = reinterpret_cast<uint8_t*>(context.uc_mcontext.fpregs);
    std::memcpy(area, in.xsave.data(), 416);
    std::memcpy(area + 576, in.xsave.data() + 576, 256);
    uint64_t present = 0;
    std::memcpy(&present, area + 512, 8);
    present |= 7;
    std::memcpy(area + 512, &present, 8);
}

void map_at(uint64_t address, size_t size, int protection, int fd, size_t offset) {
    void* at = mmap(reinterpret_cast<void*>(address), size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE,
                    fd, static_cast<off_t>(offset));
    if (at == MAP_FAILED) _exit(2);
}

}  // namespace

void viv_signal(int, siginfo_t*, ucontext_t* context) {
    if (running >= 0) store(*context, shared->out[static_cast<size_t>(running)]);
    ++running;
    while (batch == 0 || running == static_cast<int64_t>(shared->count.load())) {
        if (batch != 0) {
            shared->done.store(batch);
            futex(shared->done, FUTEX_WAKE, 1);
        }
        while (shared->wanted.load() == batch) futex(shared->wanted, FUTEX_WAIT, batch);
        ++batch;
        running = shared->first.load();
    }
    shared->at.store(static_cast<uint32_t>(running), std::memory_order_relaxed);
    load(shared->in[static_cast<size_t>(running)], *context);
}

int main(int argc, char** argv) {
    if (argc < 2) return 1;
    // FSGSBASE for user programs (linux/arch/x86/include/uapi/asm/hwcap2.h).
    if (!(getauxval(AT_HWCAP2) & 2)) return 3;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = std::atoi(argv[1]);
    void* at = mmap(nullptr, SharedBatch::code_offset(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (at == MAP_FAILED) return 2;
    shared = static_cast<SharedBatch*>(at);
    map_at(Layout::code_address, Layout::code_size, PROT_READ | PROT_EXEC, fd, SharedBatch::code_offset());
    for (unsigned n = 0; n < Layout::cases; ++n) {
        const uint64_t slot = Layout::data_of(n);
        map_at(slot + Layout::data_offset, Layout::data_size, PROT_READ | PROT_WRITE, fd, SharedBatch::data_offset(n));
        map_at(slot + Layout::read_only_offset, Layout::page, PROT_READ, fd, SharedBatch::read_only_offset());
    }
    asm volatile("rdfsbase %0" : "=r"(viv_own_fs_base));
    static uint8_t stack[1 << 16];
    const stack_t alternate{.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof stack};
    sigaltstack(&alternate, nullptr);
    struct sigaction action {};
    action.sa_sigaction = viv_signal_entry;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (const int signal : {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGSYS}) sigaction(signal, &action, nullptr);
    asm volatile("int3");
    return 0;
}
