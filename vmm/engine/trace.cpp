#include "vmm/engine/trace.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <utility>

#include "vmm/core/log.hpp"

namespace viv {
namespace {

bool read_address(std::string_view text, uint64_t& out) {
    if (text.starts_with("0x")) text.remove_prefix(2);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

Result<void> add_word(std::string_view word, TraceChoice& choice) {
    if (word == "instructions") {
        choice.instructions = true;
    } else if (word == "exits") {
        choice.exits = true;
    } else if (word == "interrupts") {
        choice.interrupts = true;
    } else if (word.starts_with("ring=") && word.size() == 6 && word[5] >= '0' && word[5] <= '3') {
        choice.rings[static_cast<size_t>(word[5] - '0')] = true;
    } else if (word.starts_with("range=")) {
        const std::string_view range = word.substr(6);
        const size_t dash = range.find('-');
        if (dash == std::string_view::npos || !read_address(range.substr(0, dash), choice.first) ||
            !read_address(range.substr(dash + 1), choice.last) || choice.first > choice.last) {
            return fail_usage(fmt::format("'{}' is not a range of addresses (try range=7c00-7dff)", word));
        }
    } else {
        return fail_usage(
            fmt::format("'{}' is nothing to trace; use instructions, exits, interrupts, ring=N, range=FROM-TO", word));
    }
    return {};
}

}  // namespace

Result<TraceChoice> parse_trace_choice(std::string_view text) {
    TraceChoice choice;
    choice.instructions = choice.exits = choice.interrupts = false;
    choice.rings = {};
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(',', at), text.size());
        TRY(add_word(text.substr(at, end - at), choice));
        at = end + 1;
    }
    if (!choice.instructions && !choice.exits && !choice.interrupts) {
        choice.instructions = choice.exits = choice.interrupts = true;
    }
    if (choice.rings == std::array<bool, 4>{}) choice.rings.fill(true);
    return choice;
}

Result<std::unique_ptr<Trace>> Trace::open(const std::string& path, TraceChoice choice) {
    std::FILE* file = std::fopen(path.c_str(), "we");
    if (!file) return fail_errno(fmt::format("cannot write the trace '{}'", path), errno);
    return std::unique_ptr<Trace>(new Trace(file, path, choice));
}

Trace::Trace(std::FILE* file, std::string path, TraceChoice choice)
    : choice_(choice), path_(std::move(path)), file_(file) {}

Trace::~Trace() {
    if (file_ && std::fclose(file_) != 0)
        log_line(fmt::format("the end of the trace '{}' could not be written", path_));
}

void Trace::line(VcpuId cpu, uint64_t count, std::string_view text) {
    const std::lock_guard hold(lock_);
    if (!file_) return;
    const std::string whole = fmt::format("{} {} {}\n", cpu.value, count, text);
    if (std::fwrite(whole.data(), 1, whole.size(), file_) == whole.size()) return;
    log_line(fmt::format("the trace '{}' takes no more, and ends here", path_));
    std::fclose(std::exchange(file_, nullptr));
}

void TracingHost::say(std::string_view text) {
    if (trace_.choice().exits) trace_.line(cpu_, count_(), text);
}

uint64_t TracingHost::port_read(uint16_t port, uint8_t size) {
    const uint64_t value = inner_.port_read(port, size);
    say(fmt::format("exit  port read {:#x} {} {:#x}", port, size, value));
    return value;
}
void TracingHost::port_write(uint16_t port, uint8_t size, uint64_t value) {
    say(fmt::format("exit  port write {:#x} {} {:#x}", port, size, value));
    inner_.port_write(port, size, value);
}
void TracingHost::port_read_block(uint16_t port, uint8_t size, std::span<std::byte> data) {
    say(fmt::format("exit  port read {:#x} {} x {}", port, size, data.size() / size));
    inner_.port_read_block(port, size, data);
}
void TracingHost::port_write_block(uint16_t port, uint8_t size, std::span<const std::byte> data) {
    say(fmt::format("exit  port write {:#x} {} x {}", port, size, data.size() / size));
    inner_.port_write_block(port, size, data);
}
uint64_t TracingHost::memory_read(Gpa address, uint8_t size) {
    const uint64_t value = inner_.memory_read(address, size);
    say(fmt::format("exit  memory read {:#x} {} {:#x}", address.value, size, value));
    return value;
}
void TracingHost::memory_write(Gpa address, uint8_t size, uint64_t value) {
    say(fmt::format("exit  memory write {:#x} {} {:#x}", address.value, size, value));
    inner_.memory_write(address, size, value);
}
uint8_t TracingHost::acknowledge_interrupt() {
    const uint8_t vector = inner_.acknowledge_interrupt();
    say(fmt::format("exit  interrupt acknowledge {:#x}", vector));
    return vector;
}
void TracingHost::end_of_interrupt(uint8_t vector) {
    say(fmt::format("exit  end of interrupt {:#x}", vector));
    inner_.end_of_interrupt(vector);
}

}  // namespace viv
