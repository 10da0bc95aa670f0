#include <filesystem>
#include <string_view>

#include "devices/pci/pci_card_test.hpp"
#include "devices/pci/pci_registers.hpp"
#include "devices/pci/pci_rig_test.hpp"
#include "devices/storage/image/temporary_file_test.hpp"
#include "vmm/core/catch.hpp"

namespace viv {
namespace {

struct PlainState {
    PciFunctionState pci;
    static void fields(auto& self, auto&& visit) { visit("pci", self.pci); }
    bool operator==(const PlainState&) const = default;
};

/// A card with nothing on it.
class PlainCard final : public StatefulDevice<PlainState> {
  public:
    PlainCard() { reset(ResetKind::power_on); }
    void reset(ResetKind /*kind*/) override { pci_.reset(); }
    static Result<std::unique_ptr<Device>> make(DeviceContext& context) {
        auto card = std::make_unique<PlainCard>();
        TRY(card->pci_.attach(context));
        return card;
    }

  protected:
    Result<void> validate(const PlainState& staged) const override { return pci_.validate(staged.pci); }
    void after_load() override { pci_.after_load(); }

  private:
    PciFunction pci_{{.vendor = 0x1234, .device = 0x5678, .class_code = 0x020000}, state_.pci};
};

constexpr PciAddress card_at{0, 3, 0};

std::string refusal(PciBoard& board, DeviceMaker maker) {
    board.node.set_cells("reg", std::vector<uint32_t>{3, 0});
    const auto made = board.try_make(maker, {});
    return made ? std::string() : made.error().message;
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TemporaryFile file_of(const std::string& text) {
    return TemporaryFile(std::as_bytes(std::span(text)));
}

}  // namespace

TEST_CASE("A card shows the file of its expansion ROM, and ones behind it") {
    const TemporaryFile file = file_of(std::string("\x55\xAA", 2) + std::string(4998, 'r'));
    PciBoard board;
    board.node.set_string("viv,rom", file.path());
    board.make_function(PlainCard::make, 3);
    board.set_config(card_at, pci::ROM_BAR, 4, 0xFFFFFFFE);
    CHECK(board.config(card_at, pci::ROM_BAR) == 0xFFFFE000);  // 8 KiB
    board.set_config(card_at, pci::ROM_BAR, 4, 0xF0000000 | pci::ROM_ENABLE);
    CHECK_FALSE(board.memory.find(Gpa{0xF0000000}));
    board.set_config(card_at, pci::COMMAND, 2, pci::MEMORY_SPACE);
    CHECK(board.memory.load<uint16_t>(Gpa{0xF0000000}) == 0xAA55);
    CHECK(board.memory.load<uint8_t>(Gpa{0xF0000000 + 4999}) == 'r');
    CHECK(board.memory.load<uint8_t>(Gpa{0xF0000000 + 5000}) == 0xFF);
    CHECK(board.memory.find(Gpa{0xF0000000})->kind == GuestMemory::Kind::rom);
}

TEST_CASE("Without a file there is no expansion ROM") {
    PciBoard board;
    board.make_function(PlainCard::make, 3);
    board.set_config(card_at, pci::ROM_BAR, 4, 0xFFFFFFFF);
    CHECK(board.config(card_at, pci::ROM_BAR) == 0);
}

TEST_CASE("What is no expansion ROM is refused, and says why") {
    PciBoard board;
    SECTION("no such file") {
        board.node.set_string("viv,rom", "/nowhere/rom");
        CHECK(contains(refusal(board, PlainCard::make), "cannot open ROM '/nowhere/rom'"));
    }
    SECTION("a folder") {
        board.node.set_string("viv,rom", "/");
        CHECK(contains(refusal(board, PlainCard::make), "is not a file"));
    }
    SECTION("empty, or something else") {
        const TemporaryFile file = file_of(GENERATE(std::string(), std::string("MZ and so on")));
        board.node.set_string("viv,rom", file.path());
        CHECK(contains(refusal(board, PlainCard::make), "55h, AAh"));
    }
    SECTION("too large") {
        const TemporaryFile file = file_of("");
        std::filesystem::resize_file(file.path(), (uint64_t{16} << 20) + 1);
        board.node.set_string("viv,rom", file.path());
        CHECK(contains(refusal(board, PlainCard::make), "has room for"));
    }
    SECTION("for a card that has one") {
        const TemporaryFile file = file_of(std::string("\x55\xAA", 2));
        board.node.set_string("viv,rom", file.path());
        CHECK(contains(refusal(board, TestCard::make), "takes no other"));
    }
}

}  // namespace viv
