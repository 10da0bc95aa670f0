#include "devices/virtio/virtio_balloon.hpp"

#include <algorithm>
#include <span>

#include "vmm/core/memory_return.hpp"

namespace viv {
namespace {

using namespace virtio;

// Feature bits (5.5.3)
constexpr uint64_t STATS_VQ = feature(1), DEFLATE_ON_OOM = feature(2), PAGE_POISON = feature(4), REPORTING = feature(5);
constexpr unsigned inflate_queue = 0, deflate_queue = 1;
// Configuration (5.5.4)
constexpr uint64_t actual_at = 4, poison_at = 12;

/// Statistics by their tags (5.5.6.3.1).
constexpr std::array<std::string_view, 10> statistic_names{
    "swapped-in", "swapped-out", "major-faults", "minor-faults", "free",
    "total",      "available",   "caches",       "huge-pages",   "huge-page-failures"};
constexpr size_t statistic_size = 10;

void put_byte(uint32_t& number, uint64_t place, uint8_t value) {
    number = (number & ~(0xFFu << (8 * place))) | uint32_t{value} << (8 * place);
}

}  // namespace

VirtioBalloon::VirtioBalloon(Clock& clock, Settings settings)
    : settings_(settings), clock_(clock), timer_(clock, [this](VirtualTime) { ask(); }) {
    reset(ResetKind::power_on);
}

uint64_t VirtioBalloon::features() const {
    return STATS_VQ | DEFLATE_ON_OOM | PAGE_POISON | REPORTING;
}

std::vector<uint8_t> VirtioBalloon::configuration() const {
    std::vector<uint8_t> bytes;
    for (const uint32_t number : {state_.target, state_.actual, 0u, state_.poison}) {
        for (unsigned i = 0; i < 4; ++i) bytes.push_back(static_cast<uint8_t>(number >> (8 * i)));
    }
    return bytes;
}

void VirtioBalloon::write_configuration(uint64_t offset, uint8_t value) {
    if (offset >= actual_at && offset < actual_at + 4) put_byte(state_.actual, offset - actual_at, value);
    if (!transport().has(PAGE_POISON)) return;
    if (offset >= poison_at && offset < poison_at + 4) put_byte(state_.poison, offset - poison_at, value);
}

void VirtioBalloon::set_size(uint64_t bytes) {
    settings_.size = bytes;
    state_.target = static_cast<uint32_t>(std::min<uint64_t>(bytes / page, UINT32_MAX));
    transport().configuration_changed();
}

// Drivers count the queues that there are with what they took, and so has every device since the first.
unsigned VirtioBalloon::statistics_queue() const {
    return transport().has(STATS_VQ) ? 2 : 0;
}
unsigned VirtioBalloon::report_queue() const {
    if (!transport().has(REPORTING)) return 0;
    return transport().has(STATS_VQ) ? 3 : 2;
}

void VirtioBalloon::notified(unsigned queue) {
    unsigned calls = 0;
    // What is too much for one turn goes on a moment later.
    const auto serve = [&](const std::function<unsigned(VirtqueueChain&, GuestMemory&)>& work) {
        transport().serve(queue, [&](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
            if (calls > calls_at_once) {
                transport().go_on_later(queue);
                return std::nullopt;
            }
            calls += work(chain, memory);
            return 0;
        });
    };
    if (queue == inflate_queue || queue == deflate_queue) {
        const auto direction = queue == inflate_queue ? Direction::inflate : Direction::deflate;
        serve([&](VirtqueueChain& chain, GuestMemory& memory) { return take_pages(chain, memory, direction); });
    } else if (queue == statistics_queue()) {
        // The buffer is kept until they are wanted anew.
        transport().serve(queue, [this](VirtqueueChain& chain, GuestMemory& memory) -> std::optional<uint32_t> {
            take_statistics(chain, memory);
            return std::nullopt;
        });
    } else if (queue == report_queue()) {
        serve([this](VirtqueueChain& chain, GuestMemory& memory) {
            // Zeros would not be what the driver has put there.
            if (transport().has(PAGE_POISON) && state_.poison != 0) return 0u;
            for (const VirtqueueChain::Segment& segment : chain.writable)
                state_.reported += give_back(memory, segment.base, segment.size);
            return static_cast<unsigned>(chain.writable.size());
        });
    }
}

/// Numbers of pages, of which those in a row are given back together.
unsigned VirtioBalloon::take_pages(VirtqueueChain& chain, GuestMemory& memory, Direction direction) {
    std::vector<uint32_t> pages(std::min<uint64_t>(chain.readable_size / 4, most_pages));
    if (!chain.read(memory, 0, std::as_writable_bytes(std::span(pages)))) return 0;
    if (direction == Direction::deflate) {
        state_.deflated += pages.size() * page;
        return 0;
    }
    std::ranges::sort(pages);
    unsigned calls = 0;
    for (size_t first = 0; first < pages.size(); ++calls) {
        size_t next = first + 1;
        while (next < pages.size() && pages[next] - pages[next - 1] <= 1) ++next;
        const uint64_t count = uint64_t{pages[next - 1]} - pages[first] + 1;
        state_.inflated += give_back(memory, Gpa{pages[first] * page}, count * page);
        first = next;
    }
    return calls;
}

// ---- Statistics ----------------------------------------------------------------------------------------------------

void VirtioBalloon::take_statistics(VirtqueueChain& chain, GuestMemory& memory) {
    state_.told = 0;
    std::array<uint8_t, statistic_size> bytes{};
    for (uint64_t at = 0; at < statistic_size * 64; at += statistic_size) {
        if (!chain.read(memory, at, std::as_writable_bytes(std::span(bytes)))) break;
        const auto tag = static_cast<size_t>(bytes[0] | bytes[1] << 8);
        if (tag >= statistic_names.size()) continue;
        uint64_t value = 0;
        for (unsigned i = 0; i < 8; ++i) value |= uint64_t{bytes[2 + i]} << (8 * i);
        state_.statistics[tag] = value;
        state_.told |= 1u << tag;
    }
}

/// Gives the driver its buffer back, which it fills anew.
void VirtioBalloon::ask() {
    state_.next_question = clock_.now() + settings_.interval;
    arm();
    if (statistics_queue() == 0) return;
    bool given = false;
    transport().serve(statistics_queue(), [&](VirtqueueChain&, GuestMemory&) -> std::optional<uint32_t> {
        if (std::exchange(given, true)) return std::nullopt;
        return 0;
    });
}

void VirtioBalloon::arm() {
    if (settings_.interval > Duration{0}) timer_.arm(state_.next_question);
}

std::vector<std::pair<std::string_view, uint64_t>> VirtioBalloon::statistics() const {
    std::vector<std::pair<std::string_view, uint64_t>> all{{"target", state_.target * page},
                                                           {"actual", state_.actual * page},
                                                           {"inflated", state_.inflated},
                                                           {"deflated", state_.deflated},
                                                           {"reported", state_.reported}};
    for (size_t tag = 0; tag < statistic_names.size(); ++tag) {
        if (state_.told >> tag & 1) all.emplace_back(statistic_names[tag], state_.statistics[tag]);
    }
    return all;
}

// ---- State ---------------------------------------------------------------------------------------------------------

void VirtioBalloon::driver_reset() {
    state_.actual = 0;
    state_.poison = 0;
    state_.told = 0;
}

void VirtioBalloon::reset(ResetKind /*kind*/) {
    state_ = {};
    state_.target = static_cast<uint32_t>(std::min<uint64_t>(settings_.size / page, UINT32_MAX));
    if (settings_.interval > Duration{0}) state_.next_question = clock_.now() + settings_.interval;
    arm();
}

Result<void> VirtioBalloon::validate(const VirtioBalloonState& staged) const {
    if (staged.told >> statistic_names.size() != 0) return fail("the saved state of the balloon cannot be");
    return {};
}

void VirtioBalloon::after_load() {
    arm();
}

Result<std::unique_ptr<VirtioFunction>> make_virtio_balloon(DeviceContext& context) {
    VirtioBalloon::Settings settings;
    const auto number = [&](const char* key) { return uint64_t{context.node.u32(key).value_or(0)}; };
    settings.size = number("viv,pages") * VirtioBalloon::page;
    settings.interval = std::chrono::seconds(number("viv,statistics"));
    auto balloon = std::make_unique<VirtioBalloon>(context.clock, settings);
    context.services.provide(*balloon);
    return balloon;
}

}  // namespace viv
