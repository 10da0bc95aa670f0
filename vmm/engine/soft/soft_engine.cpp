#include "vmm/engine/soft/soft_engine.hpp"

#include <algorithm>

#include "vmm/engine/soft/engine_impl.hpp"
#include "vmm/engine/soft/memory.hpp"
#include "vmm/engine/soft/soft_vcpu.hpp"

namespace viv {
namespace soft {

SoftEngine::SoftEngine(const EngineConfig& config, Clock& guest_clock, VirtualClock* retired_clock, Turns how)
    : memory(config.memory),
      clock(guest_clock),
      retired(retired_clock),
      turns(how),
      locks(how == Turns::none),
      cpu_count(config.cpus),
      standstill([this](const std::function<void(Cpu&)>& each) {
          for (SoftVcpu* vcpu : vcpus) each(vcpu->cpu());
      }),
      blocks(*this, nullptr),
      trace(config.trace) {
    if (has_threads()) {
        memory.add_observer(*this);
    } else {
        memory.on_change([changed = memory_changed] { *changed = true; });
    }
    if (retired) {
        retired->on_earlier_deadline([this] {
            for (SoftVcpu* vcpu : vcpus) vcpu->kick();
        });
    }
}

SoftEngine::~SoftEngine() {
    if (has_threads()) memory.remove_observer(*this);
}

Result<std::unique_ptr<Vcpu>> SoftEngine::create_vcpu(VcpuId id) {
    if (id.value != vcpus.size()) return fail("CPUs of the software engine are made in order");
    auto vcpu = std::make_unique<SoftVcpu>(*this, id);
    vcpus.push_back(vcpu.get());
    return std::unique_ptr<Vcpu>(std::move(vcpu));
}

void SoftEngine::forget(SoftVcpu& vcpu) {
    std::erase(vcpus, &vcpu);
}

void SoftEngine::regions_changed() {
    for (SoftVcpu* vcpu : vcpus) vcpu->note_new_regions();
    standstill.end();
}

void SoftEngine::dirt_taken() {
    for (SoftVcpu* vcpu : vcpus) vcpu->wake();
}

void SoftEngine::tell_of_write(const std::byte* host, uint64_t size, const Cpu* writer) {
    while (size > 0) {
        const auto address = reinterpret_cast<uintptr_t>(host);
        const auto piece = static_cast<unsigned>(std::min<uint64_t>(size, 0x1000 - (address & 0xFFF)));
        const auto* page = reinterpret_cast<const std::byte*>(address & page_mask);
        if (const uint32_t users = watch.users(page, BlockCache::chunk_mask(address, piece))) {
            for (SoftVcpu* vcpu : vcpus) {
                if (&vcpu->cpu() != writer && (users & (1u << vcpu->cpu().id))) vcpu->post_code_change(host, piece);
            }
        }
        host += piece;
        size -= piece;
    }
}

void SoftEngine::set_a20(bool enabled) {
    if (a20_enabled.exchange(enabled) == enabled) return;
    for (SoftVcpu* vcpu : vcpus) vcpu->wake();
}

void SoftEngine::send(uint64_t address, uint32_t data) {
    // SDM 3A, 11.11: destination in bits 19:12, mode in bit 2; with x2APIC ids above 255 nobody gets here.
    message({.destination = static_cast<uint32_t>((address >> 12) & 0xFF),
             .logical = (address & 4) != 0,
             .mode = static_cast<Delivery>((data >> 8) & 7),
             .vector = static_cast<uint8_t>(data),
             .level = (data & 0x8000) != 0});
}

void SoftEngine::message(const Message& m) {
    if (m.mode == Delivery::lowest_priority) {
        // Among those that match the first takes it: a legal choice, and a repeatable one.
        for (SoftVcpu* vcpu : vcpus) {
            if (!vcpu->apic().matches(m.destination, m.logical, vcpu->cpu()) || !vcpu->apic().software_enabled())
                continue;
            return vcpu->apic().post(m.vector, m.level);
        }
        return;
    }
    for (SoftVcpu* vcpu : vcpus) {
        if (m.except && vcpu->cpu().id == *m.except) continue;
        if (!vcpu->apic().matches(m.destination, m.logical, vcpu->cpu())) continue;
        switch (m.mode) {
            case Delivery::fixed: vcpu->apic().post(m.vector, m.level); break;
            case Delivery::nmi: vcpu->inject_nmi(); break;
            case Delivery::init: vcpu->post_init(); break;
            case Delivery::startup: vcpu->post_startup(m.vector); break;
            case Delivery::external:
            case Delivery::smi:
            case Delivery::reserved:
            case Delivery::lowest_priority: break;
        }
    }
}

void SoftEngine::set_ioapic_routes(std::span<const IoApicRoute>) {
    // The trigger mode comes with each message.
}

EngineCounters SoftEngine::counters() const {
    uint64_t instructions = 0, decoded = blocks.decoded, invalidated = blocks.invalidated, epochs = blocks.epoch;
    uint64_t compiled = blocks.jit.blocks, code_bytes = blocks.jit.bytes;
    CpuCounters all;
    for (SoftVcpu* vcpu : vcpus) {
        instructions += vcpu->instructions();
        all += vcpu->cpu().counters;
        if (!has_threads()) continue;
        decoded += vcpu->cpu().blocks->decoded;
        invalidated += vcpu->cpu().blocks->invalidated;
        epochs += vcpu->cpu().blocks->epoch;
        compiled += vcpu->cpu().blocks->jit.blocks;
        code_bytes += vcpu->cpu().blocks->jit.bytes;
    }
    return {{"instructions", instructions},           {"faults", all.faults},        {"interrupts", all.interrupts},
            {"tlb.slow-accesses", all.slow_accesses}, {"tlb.walks", all.walks},      {"tlb.flushes", all.flushes},
            {"blocks.lookups", all.block_lookups},    {"blocks.epochs", epochs},     {"blocks.decoded", decoded},
            {"blocks.invalidated", invalidated},      {"blocks.compiled", compiled}, {"blocks.code-bytes", code_bytes}};
}

void SoftEngine::account_time(Cpu& cpu) {
    const int64_t passed = cpu.slice_start - cpu.remaining;
    if (passed <= 0) return;
    cpu.slice_start = cpu.remaining;
    cpu.retired += static_cast<uint64_t>(passed);
    if (retired) retired->retire(static_cast<uint64_t>(passed));
}

VirtualTime SoftEngine::now(Cpu& cpu) {
    account_time(cpu);
    return clock.now();
}

uint64_t SoftEngine::tsc(Cpu& cpu) {
    return ticks_in(now(cpu).ns, features.tsc_hertz);
}

}  // namespace soft

namespace {
Result<std::unique_ptr<Engine>> make(const EngineConfig& config, Clock& clock, VirtualClock* retired,
                                     soft::Turns turns) {
    auto engine = std::make_unique<soft::SoftEngine>(config, clock, retired, turns);
    engine->features = TRY(soft::make_features(config.cpu_model, config.cpus, config.tsc.hertz,
                                               config.processor ? &*config.processor : nullptr));
    engine->tsc_start = config.tsc.shows.value_or(0);
    return std::unique_ptr<Engine>(std::move(engine));
}
}  // namespace

CpuFeatureSet soft_cpu_features() {
    return soft::executable_features();
}

Result<std::unique_ptr<Engine>> make_soft_engine(const EngineConfig& config, HostClock& clock) {
    return make(config, clock, nullptr, soft::Turns::none);
}

Result<std::unique_ptr<Engine>> make_soft_engine(const EngineConfig& config, VirtualClock& clock) {
    return make(config, clock, &clock, soft::Turns::taken);
}

}  // namespace viv
