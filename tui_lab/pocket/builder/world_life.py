"""Facts about daily life: jobs, tools, rooms, materials, food, shops, sport, famous works."""

from __future__ import annotations

from tui_lab.pocket.builder.relation import Relation, alternatives, lines, pairs

RELATIONS = (
    Relation(
        "job",
        "work",
        pairs("""
            bakes bread=baker; teaches children=teacher; helps sick people=doctor;
            puts out fires=firefighter; grows food on a farm=farmer; flies planes=pilot;
            cuts hair=barber; cooks in a restaurant=cook; catches fish=fisherman;
            repairs water pipes=plumber; looks after teeth=dentist; sells meat=butcher;
            builds with wood=carpenter; paints pictures=painter; writes books=author;
            sails on ships=sailor; catches thieves=policeman; brings letters=postman;
            treats sick animals=vet; travels to space=astronaut; works with iron and fire=blacksmith;
            sews clothes=tailor; plans houses=architect; digs for coal=miner; decides in court=judge;
            drives a train=train driver; takes photos=photographer; acts in films=actor;
            fixes wires and lamps=electrician; keeps bees=beekeeper; lends books=librarian;
            guides a ship=captain; grows flowers=gardener; serves food at tables=waiter;
            makes shoes=shoemaker; lays bricks=bricklayer; works with numbers and taxes=accountant;
            robs ships at sea=pirate"""),
        lines("""
            the job of a person who {s}
            the name for somebody who {s}
            the word for a person who {s}"""),
        lines("""
            Who {s}?
            What do you call someone who {s}?
            What is the job of someone who {s}?
            Which person {s}?
            What do we call a person who {s}?
            A man {s}. What is his job?
            A woman {s}. What is her job?
            My uncle {s}. What is he?"""),
        lines("""
            Which job does somebody have who {s}?
            How do you name the person who {s}?
            Lisa {s} every day. What does she work as?"""),
        lines("""
            A person who {s} is called a {a}.
            The {a} {s}.
            Someone who {s} works as a {a}.
            A {a} is a person who {s}."""),
        alternatives(
            """
            sails on ships=captain, pirate, fisherman; guides a ship=sailor, pirate;
            grows food on a farm=gardener; cooks in a restaurant=baker; lays bricks=carpenter;
            treats sick animals=doctor; helps sick people=vet, dentist"""
        ),
    ),
    Relation(
        "workplace",
        "work",
        pairs("""
            teacher=school; doctor=hospital; farmer=farm; baker=bakery; pilot=plane; sailor=ship;
            actor=theatre; cook=kitchen; judge=court; miner=mine; librarian=library; priest=church;
            banker=bank; gardener=garden; waiter=restaurant; mechanic=garage; scientist=laboratory;
            soldier=army; butcher=meat shop; guard=prison; clown=circus; pharmacist=pharmacy;
            receptionist=hotel; goalkeeper=goal"""),
        lines("""
            the workplace of a {s}
            the place where a {s} works
            the usual place of work for a {s}"""),
        lines("""
            Where does a {s} work?
            In which place does a {s} work?
            Where would you meet a {s} at work?
            What is the workplace of a {s} called?
            A {s} works where?
            Where does a {s} go in the morning to work?
            Which place needs a {s}?"""),
        lines("""
            Where can you find a {s} during working hours?
            At which place does a {s} earn money?
            Where must you go if you look for a {s} on duty?"""),
        lines("""
            A {s} works in the {a}.
            The workplace of a {s} is the {a}.
            You meet a {s} in the {a}.
            The {a} is where a {s} works."""),
        alternatives(
            """
            cook=restaurant, hotel; waiter=hotel, kitchen; guard=bank, army; gardener=farm;
            doctor=laboratory; pharmacist=hospital; scientist=hospital, school; priest=hospital, prison;
            receptionist=hospital; farmer=garden"""
        ),
    ),
    Relation(
        "tool",
        "things",
        pairs("""
            cut paper=scissors; hit a nail=hammer; dig a hole=shovel; sweep the floor=broom;
            write on paper=pen; open a lock=key; eat soup=spoon; cut bread=knife; cut wood=saw;
            brush your teeth=toothbrush; comb your hair=comb; tell the time=clock;
            measure how long it is=ruler; stay dry in the rain=umbrella; sew a button=needle;
            boil water=kettle; take a photo=camera; look at the stars=telescope;
            see very small things=microscope; paint a wall=brush; climb to the roof=ladder;
            turn a screw=screwdriver; water the flowers=watering can; catch a fish=fishing rod;
            find north=compass; measure the heat=thermometer; wash your hands=soap; dry your hands=towel;
            light a candle=match; weigh flour=scales; iron a shirt=iron; pull out a nail=pliers;
            cut the grass=lawnmower; chop down a tree=axe; call a friend=telephone;
            rub out a pencil line=eraser; keep food cold=fridge; bake a cake=oven;
            wash clothes=washing machine; clean the carpet=vacuum cleaner"""),
        lines("""
            the tool to {s}
            the thing that you need to {s}
            the thing that people use to {s}
            the right tool to {s}"""),
        lines("""
            What do you use to {s}?
            What do you need to {s}?
            Which tool do you use to {s}?
            What do people use to {s}?
            I want to {s}. What do I need?
            Which thing helps you to {s}?
            To {s}, what should I take?
            With which thing do you {s}?"""),
        lines("""
            What should I buy if I want to {s}?
            Which object is made to {s}?
            My father has to {s}. What must I bring him?"""),
        lines("""
            To {s} you need: {a}.
            People use this to {s}: {a}.
            The tool to {s} is called {a}.
            If you want to {s}, take the {a}."""),
        alternatives(
            """
            cut wood=axe, knife; cut paper=knife; chop down a tree=saw; write on paper=brush;
            paint a wall=ladder; dig a hole=hammer; clean the carpet=broom, soap; wash clothes=soap;
            wash your hands=towel; sweep the floor=brush"""
        ),
    ),
    Relation(
        "material",
        "things",
        pairs("""
            window=glass; table=wood; coin=metal; book=paper; sweater=wool; shoe=leather; tire=rubber;
            brick=clay; bottle=glass; candle=wax; statue=stone; newspaper=paper; nail=iron;
            wedding ring=gold; cup for tea=porcelain; bucket=plastic; T-shirt=cotton; necktie=silk;
            wall of a castle=stone; saddle=leather; pencil=wood; spoon=metal; mirror=glass;
            pillow=feathers; towel=cotton; toy brick=plastic; flower pot=clay; knife blade=steel;
            sock=wool; igloo=snow; book page=paper; door=wood; eraser=rubber; sail=cloth; tent=cloth;
            bridge for trains=steel"""),
        lines("""
            the material of a {s}
            the usual material of a {s}
            the material that a {s} is made of"""),
        lines("""
            What is a {s} made of?
            From what material is a {s} made?
            Which material do you need to make a {s}?
            What do people make a {s} from?
            A {s} is usually made of what?
            What material is used for a {s}?
            Of what is a {s} made?"""),
        lines("""
            Which material does a {s} normally consist of?
            Out of what would somebody make a {s}?
            What stuff is in a {s}?"""),
        lines("""
            A {s} is made of {a}.
            The material of a {s} is {a}.
            People make a {s} from {a}.
            {a} is used to make a {s}."""),
        alternatives(
            """
            coin=gold, iron, steel; spoon=iron, steel, wood, plastic; statue=wood, metal, clay;
            table=metal, glass, plastic; window=plastic; bottle=plastic; nail=steel, metal;
            wedding ring=metal; cup for tea=clay, glass; bucket=metal, wood; T-shirt=silk, cloth;
            necktie=cotton, cloth; wall of a castle=clay; toy brick=wood; flower pot=plastic, porcelain;
            knife blade=iron, metal; sock=cotton; sweater=cotton; door=metal, plastic, glass;
            sail=cotton; tent=cotton, plastic; bridge for trains=stone, iron, wood, metal; towel=cloth;
            pillow=cotton, cloth; shoe=rubber, cloth; tire=plastic; eraser=plastic; mirror=metal;
            brick=stone; saddle=cloth; pencil=plastic; igloo=stone"""
        ),
    ),
    Relation(
        "room",
        "things",
        pairs("""
            bed=bedroom; oven=kitchen; shower=bathroom; sofa=living room; car=garage; bathtub=bathroom;
            fridge=kitchen; television=living room; wardrobe=bedroom; old boxes=attic; wine=cellar;
            flowers=garden; dishwasher=kitchen; toothbrush=bathroom; pillow=bedroom; swing=garden;
            armchair=living room; desk=office; doormat=entrance"""),
        lines("""
            the usual place for the {s}
            the part of the house for the {s}
            the place in the house where we keep the {s}"""),
        lines("""
            In which room is the {s}?
            Where in the house is the {s}?
            Which room has the {s} in it?
            Where do you find the {s} at home?
            In which part of the house do we keep the {s}?
            The {s} stands in which room?
            Which room do you enter to find the {s}?"""),
        lines("""
            In what room would you look for the {s}?
            Which room of a house is the right one for the {s}?
            Where at home should I put the {s}?"""),
        lines("""
            The {s} is in the {a}.
            The place for the {s} is the {a}.
            In the {a} you find the {s}.
            We keep the {s} in the {a}."""),
        alternatives(
            """
            wine=kitchen; desk=bedroom, living room; pillow=living room; old boxes=cellar, garage;
            television=bedroom; armchair=bedroom, office; sofa=office; wardrobe=entrance; fridge=cellar;
            flowers=living room; dishwasher=cellar"""
        ),
    ),
    Relation(
        "kind",
        "things",
        pairs("""
            apple=fruit; pear=fruit; carrot=vegetable; onion=vegetable; hammer=tool; saw=tool;
            chair=furniture; table=furniture; rose=flower; tulip=flower; oak=tree; pine=tree;
            violin=instrument; piano=instrument; football=sport; tennis=sport; shirt=clothes;
            jacket=clothes; car=vehicle; bus=vehicle; red=colour; blue=colour; doll=toy; kite=toy;
            bread=food; cheese=food; tea=drink; juice=drink; gold=metal; iron=metal; guitar=instrument;
            cabbage=vegetable; daisy=flower; truck=vehicle; trousers=clothes; wardrobe=furniture;
            copper=metal; grape=fruit; birch=tree; coffee=drink; hockey=sport; flute=instrument;
            Monday=day; Friday=day; June=month; March=month"""),
        lines("""
            the kind of thing that the word {s} names
            the group of things for {s}
            the general word for {s}"""),
        lines("""
            What kind of thing is {s}?
            Which group of things does {s} belong to?
            To what sort of things does {s} belong?
            {s} is an example of what?
            What is {s} in general?
            In which group do we put {s}?
            Which general word fits {s}?
            What type of thing is {s}?
            {s} is a kind of what?"""),
        lines("""
            What category does {s} fall into?
            Under which heading would you file {s}?
            Of which kind is {s}?"""),
        lines("""
            The word {s} names a kind of {a}.
            {s} belongs to the group {a}.
            {s} is an example of: {a}.
            The general word for {s} is {a}."""),
    ),
    Relation(
        "made_from",
        "food",
        pairs("""
            bread=flour; cheese=milk; butter=cream; wine=grapes; raisins=grapes; jam=fruit;
            chocolate=cocoa; an omelette=eggs; chips=potatoes; ketchup=tomatoes; cider=apples;
            yoghurt=milk; popcorn=corn; peanut butter=peanuts; tofu=soybeans; a pickle=cucumber;
            paper=wood; glass=sand; ham=pork; sushi=rice; oatmeal=oats; beer=barley; noodles=flour;
            lemonade=lemons; marzipan=almonds"""),
        lines("""
            the main thing in {s}
            the thing that {s} is made from
            the main ingredient of {s}"""),
        lines("""
            What is {s} made from?
            From what do people make {s}?
            What do you need most to make {s}?
            Which main ingredient does {s} have?
            {s} comes from what?
            What is turned into {s}?
            What do we use to produce {s}?"""),
        lines("""
            Which thing must you have to prepare {s}?
            What was {s} before it was made?
            If you want to make {s}, what do you start with?"""),
        lines("""
            People make {s} from {a}.
            The main thing in {s} is {a}.
            {s} comes from {a}.
            You need {a} to make {s}."""),
        alternatives(
            """
            jam=grapes, apples, tomatoes; cider=fruit; wine=fruit; raisins=fruit; lemonade=fruit;
            butter=milk; noodles=eggs, rice; beer=corn; bread=oats; cheese=cream; yoghurt=cream"""
        ),
    ),
    Relation(
        "shop",
        "things",
        pairs("""
            bread=bakery; meat=butcher; medicine=pharmacy; stamps=post office; books=bookshop;
            petrol=petrol station; flowers=flower shop; rings=jeweller; fresh vegetables=market;
            money=bank; shoes=shoe shop; toys=toy shop; glasses=optician; a train ticket=station;
            a haircut=hairdresser; a pet hamster=pet shop; paint and nails=hardware shop"""),
        lines("""
            the place to get {s}
            the right shop for {s}
            the place where people buy {s}"""),
        lines("""
            Where do you buy {s}?
            Where can I get {s}?
            Where do people go for {s}?
            I need {s}. Where should I go?
            Which shop has {s}?
            In which place can you get {s}?
            Where in town do I find {s}?"""),
        lines("""
            To which place would you send me for {s}?
            If you run out of {s}, where do you go?
            Which place in town offers {s}?"""),
        lines("""
            You get {s} at the {a}.
            The place to get {s} is the {a}.
            People go to the {a} for {s}.
            For {s}, go to the {a}."""),
        alternatives(
            """
            bread=market; meat=market; flowers=market; toys=market; books=station; stamps=bank;
            medicine=market; shoes=market"""
        ),
    ),
    Relation(
        "author",
        "culture",
        pairs("""
            Hamlet=Shakespeare; Romeo and Juliet=Shakespeare; Oliver Twist=Dickens;
            Don Quixote=Cervantes; War and Peace=Tolstoy; Faust=Goethe; the Odyssey=Homer;
            the Mona Lisa=Leonardo da Vinci; the Starry Night=Van Gogh; the Magic Flute=Mozart;
            the Moonlight Sonata=Beethoven; Pride and Prejudice=Jane Austen;
            Alice in Wonderland=Lewis Carroll; the Jungle Book=Kipling; Treasure Island=Stevenson;
            Peter Pan=Barrie; Robinson Crusoe=Defoe; the Hobbit=Tolkien; the Four Seasons=Vivaldi;
            Guernica=Picasso; Frankenstein=Mary Shelley; the Ugly Duckling=Andersen; Pinocchio=Collodi;
            Tom Sawyer=Mark Twain; the Divine Comedy=Dante"""),
        lines("""
            the creator of {s}
            the person who made {s}
            the name of the person behind {s}"""),
        lines("""
            Who made {s}?
            Who created {s}?
            Which person created {s}?
            By whom is {s}?
            {s} is the work of whom?
            Who is famous for {s}?
            Whose work is {s}?"""),
        lines("""
            Which artist gave us {s}?
            To whom do we owe {s}?
            From whose hand came {s}?"""),
        lines("""
            {a} created {s}.
            {s} is a work by {a}.
            The creator of {s} is {a}.
            {a} is famous for {s}."""),
    ),
    Relation(
        "sport",
        "culture",
        pairs("""
            tennis=racket; golf=club; chess=board; skiing=skis; cycling=bicycle; swimming=pool;
            football=ball; boxing=gloves; archery=bow; sailing=boat; bowling=pins; fencing=sword;
            riding=horse; skating=skates; baseball=bat; ice hockey=puck; badminton=shuttlecock;
            rowing=oars; climbing=rope; surfing=surfboard; darts=darts board; running=running shoes"""),
        lines("""
            the thing that you need for {s}
            the important thing for {s}
            the typical equipment for {s}"""),
        lines("""
            What do you need for {s}?
            Which thing is needed for {s}?
            What does somebody use for {s}?
            What is used in {s}?
            {s} is done with what?
            What must I have for {s}?
            I want to try {s}. What do I need?"""),
        lines("""
            Without which thing is there no {s}?
            What should I pack for {s}?
            What would you rent if you wanted to do {s}?"""),
        lines("""
            For {s} you need: {a}.
            The thing that you need for {s}: {a}.
            {s} is done with this: {a}.
            If you like {s}, get this: {a}."""),
        alternatives(
            """
            tennis=ball, shoes; baseball=ball, gloves; ice hockey=skates; bowling=ball; golf=ball;
            rowing=boat; sailing=rope; badminton=racket"""
        ),
    ),
)
