/*
 * What every board with ACPI has in common. Its devices and processors, and the host bridge's windows and interrupts, are in the
 * SSDT, which is made from the board's tree.
 * Reference: ACPI Specification 6.4, 5.2.11.1 "Differentiated System Description Table", 6.2.13 "_PRT", 7.4.2 "System \_Sx states";
 * Intel 82371SB (290550), 2.2.12 "PIRQRC[A:D]".
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "VIV   ", "VIVPC   ", 1)
{
    /* Soft off is sleep type 0 of the power management block. */
    Name (\_S5, Package (4) { 0, 0, 0, 0 })

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_BBN, 0)

            Device (ISA)
            {
                Name (_ADR, 0x00010000)

                OperationRegion (PIRQ, PCI_Config, 0x60, 4)
                Field (PIRQ, ByteAcc, NoLock, Preserve)
                {
                    PRQA, 8,
                    PRQB, 8,
                    PRQC, 8,
                    PRQD, 8
                }
            }
        }

        /* An interrupt router's register: bit 7 is "off", the low bits name the ISA interrupt. */
        Method (LSTA, 1)
        {
            If (Arg0 & 0x80) { Return (0x09) }
            Return (0x0B)
        }
        Method (LCRS, 1, Serialized)
        {
            Name (BUFF, ResourceTemplate ()
            {
                Interrupt (ResourceConsumer, Level, ActiveHigh, Shared, , , NUMB) { 0 }
            })
            CreateDWordField (BUFF, NUMB._INT, IRQN)
            If (!(Arg0 & 0x80)) { IRQN = Arg0 & 0x0F }
            Return (BUFF)
        }
        Name (LPRS, ResourceTemplate ()
        {
            Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 5, 10, 11 }
        })

        Device (LNKA)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 1)
            Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQA)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQA |= 0x80 }
            Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQA)) }
            Method (_PRS) { Return (LPRS) }
            Method (_SRS, 1)
            {
                CreateDWordField (Arg0, 5, IRQN)
                \_SB.PCI0.ISA.PRQA = IRQN
            }
        }
        Device (LNKB)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 2)
            Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQB)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQB |= 0x80 }
            Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQB)) }
            Method (_PRS) { Return (LPRS) }
            Method (_SRS, 1)
            {
                CreateDWordField (Arg0, 5, IRQN)
                \_SB.PCI0.ISA.PRQB = IRQN
            }
        }
        Device (LNKC)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 3)
            Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQC)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQC |= 0x80 }
            Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQC)) }
            Method (_PRS) { Return (LPRS) }
            Method (_SRS, 1)
            {
                CreateDWordField (Arg0, 5, IRQN)
                \_SB.PCI0.ISA.PRQC = IRQN
            }
        }
        Device (LNKD)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 4)
            Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQD)) }
            Method (_DIS) { \_SB.PCI0.ISA.PRQD |= 0x80 }
            Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQD)) }
            Method (_PRS) { Return (LPRS) }
            Method (_SRS, 1)
            {
                CreateDWordField (Arg0, 5, IRQN)
                \_SB.PCI0.ISA.PRQD = IRQN
            }
        }
    }
}
