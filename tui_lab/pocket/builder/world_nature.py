"""Facts about nature: animals, plants, colours, the body, weather and sky."""

from __future__ import annotations

from tui_lab.pocket.builder.relation import Relation, alternatives, lines, pairs

RELATIONS = (
    Relation(
        "young",
        "animals",
        pairs("""
            dog=puppy; cat=kitten; cow=calf; horse=foal; sheep=lamb; pig=piglet; hen=chick;
            duck=duckling; goat=kid; lion=cub; bear=cub; frog=tadpole; goose=gosling; deer=fawn;
            kangaroo=joey; swan=cygnet; owl=owlet; eagle=eaglet; butterfly=caterpillar; elephant=calf;
            wolf=cub; fox=cub; whale=calf; spider=spiderling"""),
        lines("""
            the young of {an}
            the name for the baby of {an}
            the word for a young {s}
            the name of a baby {s}"""),
        lines("""
            What is a young {s} called?
            What do you call a baby {s}?
            What is the baby of {an} called?
            Which word do we use for a young {s}?
            {an} has a baby. What is the baby called?
            A {s} was born today. What do you call it?
            What will {an} call its baby, in our words?
            Which young animal belongs to {an}?"""),
        lines("""
            How do we name the little one of {an}?
            Which name is given to the young of {an}?
            If {an} is still a baby, what is it called?"""),
        lines("""
            A young {s} is called a {a}.
            The baby of {an} is a {a}.
            {an} was once a {a}.
            A {a} is a baby {s}."""),
    ),
    Relation(
        "sound",
        "animals",
        pairs("""
            dog=bark; cat=meow; cow=moo; horse=neigh; sheep=baa; pig=oink; duck=quack; lion=roar;
            bee=buzz; snake=hiss; owl=hoot; frog=croak; rooster=crow; mouse=squeak; wolf=howl;
            bird=chirp; turkey=gobble; donkey=bray; pigeon=coo; elephant=trumpet; hen=cluck; crow=caw;
            goose=honk"""),
        lines("""
            the sound of {an}
            the sound that {an} makes
            the noise of {an}"""),
        lines("""
            What sound does {an} make?
            Which sound comes from {an}?
            What does {an} say?
            What noise does {an} make?
            How does {an} sound?
            What do you hear from {an}?
            {an} makes which sound?
            What is the typical sound of {an}?"""),
        lines("""
            Which noise would you hear when {an} is near?
            What is the call of {an} like?
            If {an} opens its mouth, which sound do you hear?"""),
        lines("""
            The sound of {an} is {a}.
            {an} makes the sound {a}.
            You hear a {a} from {an}.
            "{a}" is what {an} says."""),
        alternatives(
            """
            bird=hoot, crow, coo, caw, quack; dog=howl; rooster=cluck; hen=chirp; pigeon=chirp"""
        ),
    ),
    Relation(
        "class",
        "animals",
        pairs("""
            dog=mammal; cat=mammal; whale=mammal; bat=mammal; elephant=mammal; mouse=mammal; cow=mammal;
            eagle=bird; owl=bird; penguin=bird; duck=bird; ostrich=bird; swan=bird; salmon=fish;
            shark=fish; tuna=fish; trout=fish; snake=reptile; lizard=reptile; crocodile=reptile;
            turtle=reptile; frog=amphibian; toad=amphibian; newt=amphibian; ant=insect; bee=insect;
            butterfly=insect; beetle=insect; fly=insect; mosquito=insect; horse=mammal; dolphin=mammal;
            parrot=bird; sparrow=bird; herring=fish; wasp=insect"""),
        lines("""
            the animal class of {an}
            the class of animals for {an}
            the animal group of {an}"""),
        lines("""
            What kind of animal is {an}?
            Which class of animals does {an} belong to?
            To which animal group does {an} belong?
            {an} is what kind of animal?
            Is {an} a mammal, a bird, a fish, a reptile, an amphibian or an insect?
            In which class do we put {an}?
            What type of animal is {an}?
            Which animal class has {an} in it?"""),
        lines("""
            How would a biologist class {an}?
            Into which group of animals would you sort {an}?
            What sort of creature is {an}?"""),
        lines("""
            {an} is {aa}.
            {an} belongs to the animal class {a}.
            The kind of animal that {an} is: {a}.
            We put {an} in the class {a}."""),
    ),
    Relation(
        "legs",
        "animals",
        pairs("""
            dog=four; cat=four; horse=four; cow=four; lion=four; spider=eight; ant=six; bee=six; fly=six;
            beetle=six; butterfly=six; duck=two; hen=two; owl=two; person=two; fish=none; snake=none;
            worm=none; crab=ten; lobster=ten; scorpion=eight; octopus=eight; shark=none; elephant=four;
            swan=two; mosquito=six"""),
        lines("""
            the number of legs of {an}
            the number of legs that {an} has
            the leg count of {an}"""),
        lines("""
            How many legs does {an} have?
            On how many legs does {an} walk?
            How many legs do you count on {an}?
            {an} has how many legs?
            What number of legs does {an} have?
            If you draw {an}, how many legs do you need?
            How many legs has {an}?"""),
        lines("""
            With how many legs does {an} move?
            How many legs belong to {an}?
            Count the legs of {an}. How many are there?"""),
        lines("""
            The number of legs of {an} is {a}.
            Legs of {an}: {a}.
            Count the legs of {an}: {a}.
            How many legs has {an}? It has {a}."""),
    ),
    Relation(
        "home",
        "animals",
        pairs("""
            bird=nest; bee=hive; dog=kennel; horse=stable; spider=web; lion=den; rabbit=burrow; pig=sty;
            hen=coop; cow=barn; fish=water; ant=anthill; beaver=lodge; snail=shell; bat=cave;
            squirrel=tree; mole=tunnel; camel=desert; monkey=jungle; whale=sea; penguin=ice;
            goat=mountain; frog=pond; worm=soil; parrot=rainforest"""),
        lines("""
            the home of {an}
            the place where {an} lives
            the typical home of {an}"""),
        lines("""
            Where does {an} live?
            What is the home of {an} called?
            In what place does {an} live?
            Where can you find {an} at home?
            {an} lives where?
            Which home does {an} have?
            Where would you look for {an}?
            Where does {an} sleep?"""),
        lines("""
            Which place does {an} call its home?
            Where do we find the typical home of {an}?
            In which place would {an} make its home?"""),
        lines("""
            The home of {an} is the {a}.
            {an} lives in the {a}.
            You find {an} in the {a}.
            The {a} is the home of {an}."""),
        alternatives(
            """
            fish=sea, pond; frog=water; bird=tree; parrot=jungle, tree; monkey=tree, rainforest;
            squirrel=nest; whale=water; penguin=sea, water; worm=tunnel; mole=burrow; rabbit=tunnel;
            cow=stable; horse=barn; lion=cave"""
        ),
    ),
    Relation(
        "group",
        "animals",
        pairs("""
            sheep=flock; cow=herd; fish=school; wolf=pack; lion=pride; bee=swarm; ant=colony;
            goose=gaggle; whale=pod; crow=murder; elephant=herd; bird=flock; dolphin=pod; dog=pack"""),
        lines("""
            the word for a group of animals like the {s}
            the name for many animals of the kind {s} together"""),
        lines("""
            What do you call a group with more than one {s}?
            Which word names a group of the animal {s}?
            The {s} lives in a group. What is the group called?
            Many animals of the kind {s} together are called what?
            What is a group of the animal {s} called?
            Which group does the {s} live in?"""),
        lines("""
            When the {s} is not alone, what is the name of its group?
            How do we call the group in which the {s} lives?
            Which group word belongs to the {s}?"""),
        lines("""
            A group of the animal {s} is called a {a}.
            The {s} lives in a {a}.
            Many animals of the kind {s} together are a {a}."""),
    ),
    Relation(
        "colour",
        "nature",
        pairs("""
            grass=green; snow=white; blood=red; coal=black; the clear sky=blue; a lemon=yellow;
            a carrot=orange; a banana=yellow; a strawberry=red; milk=white; chocolate=brown;
            a frog=green; an elephant=grey; a flamingo=pink; a raven=black; a swan=white;
            a fire engine=red; the sun=yellow; a plum=purple; mud=brown; a cherry=red; spinach=green;
            a polar bear=white; a pumpkin=orange; salt=white; soot=black; a pea=green; a canary=yellow;
            the sea=blue; a cucumber=green; gold=yellow; a mouse=grey; a pig=pink; a tree trunk=brown;
            an eggplant=purple; lavender=purple; ash=grey; paper=white"""),
        lines("""
            the colour of {s}
            the color of {s}
            the usual colour of {s}"""),
        lines("""
            What colour is {s}?
            What color is {s}?
            Which colour does {s} have?
            Which color is {s}?
            In which colour would you paint {s}?
            {s} has which colour?
            What is the typical colour of {s}?
            What colour do you think of when you think of {s}?"""),
        lines("""
            Which crayon do you take to draw {s}?
            What colour would {s} normally be?
            When you look at {s}, which colour do you see?"""),
        lines("""
            The colour of {s} is {a}.
            {s} is {a}.
            The usual color of {s} is {a}.
            {a} is the colour of {s}."""),
        alternatives(
            """
            the sun=orange; a plum=red, blue; a mouse=brown, white; a frog=brown; a cherry=black, purple;
            a pig=brown; a tree trunk=grey; an eggplant=black; soot=grey; ash=white, black;
            mud=grey, black; the sea=green, grey; a pea=yellow"""
        ),
    ),
    Relation(
        "body",
        "nature",
        pairs("""
            see=eyes; hear=ears; smell=nose; taste=tongue; chew=teeth; walk=feet; think=brain;
            breathe=lungs; pump blood=heart; hold a pen=fingers; kiss=lips; digest food=stomach;
            wear a hat=head; wear a scarf=neck; bend the leg=knee; bend the arm=elbow; wear a glove=hand;
            wear a belt=waist; clean the blood=kidneys; wear a watch=wrist"""),
        lines("""
            the part of the body to {s}
            the body part that you need to {s}
            the part of the body that is used to {s}"""),
        lines("""
            Which part of the body do you use to {s}?
            With what do you {s}?
            What part of the body lets you {s}?
            What do people use to {s}?
            To {s}, which part of the body do you need?
            Which body part is there to {s}?
            What does your body use to {s}?"""),
        lines("""
            Without which part of the body could you not {s}?
            Which part of a person is needed to {s}?
            When you want to {s}, which body part works?"""),
        lines("""
            To {s} you use the {a}.
            The part of the body to {s}: {a}.
            People use the {a} to {s}.
            You need your {a} to {s}."""),
        alternatives(
            """
            kiss=tongue; taste=nose; chew=tongue; wear a glove=fingers, wrist; hold a pen=hand;
            wear a watch=hand; walk=knee; breathe=nose; wear a scarf=head"""
        ),
    ),
    Relation(
        "weather",
        "nature",
        pairs("""
            white flakes that fall in winter=snow; water that falls from clouds=rain;
            a bright flash in a storm=lightning; the loud noise after a flash=thunder;
            balls of ice from the sky=hail; a cloud close to the ground=fog; moving air=wind;
            a coloured bow in the sky=rainbow; frozen water=ice; very hot water in the air=steam;
            drops on the grass in the morning=dew; a time without any rain=drought;
            too much water on the land=flood; a mountain that spits fire=volcano;
            a shaking of the ground=earthquake; a wind that turns very fast=tornado;
            the light of early morning=dawn; a huge wave after a quake=tsunami"""),
        lines("""
            the word for {s}
            the name for {s}
            the right word for {s}"""),
        lines("""
            What do you call {s}?
            What do we call {s}?
            Which word means {s}?
            How do people call {s}?
            What is {s} called?
            I saw {s}. What was it?
            What is it: {s}?"""),
        lines("""
            Which word describes {s}?
            {s}: how is that called?
            How would you name {s} in one word?"""),
        lines("""
            The word for {s} is {a}.
            We call {s} {a}.
            {a} means {s}.
            {a}: {s}."""),
    ),
    Relation(
        "planet",
        "nature",
        pairs("""
            first=Mercury; second=Venus; third=Earth; fourth=Mars; fifth=Jupiter; sixth=Saturn;
            seventh=Uranus; eighth=Neptune"""),
        lines("""
            the {s} planet from the sun
            the {s} planet of the solar system
            the name of the {s} planet from the sun"""),
        lines("""
            Which planet is the {s} from the sun?
            Counted from the sun, which planet is {s}?
            Which planet comes {s} when you start at the sun?
            What is the {s} planet called?
            Going away from the sun, which is the {s} planet?"""),
        lines("""
            Which planet has the {s} place from the sun?
            On the way out from the sun, which planet do we meet as the {s}?
            The {s} of the eight planets has which name?"""),
        lines("""
            The {s} planet from the sun is {a}.
            {a} is the {s} planet from the sun.
            Counted from the sun, {a} is the {s} planet."""),
    ),
    Relation(
        "product",
        "nature",
        pairs("""
            cow=milk; hen=eggs; bee=honey; sheep=wool; silkworm=silk; apple tree=apples; oak=acorns;
            vine=grapes; cherry tree=cherries; palm=coconuts; pear tree=pears; walnut tree=walnuts;
            olive tree=olives; rose bush=roses; goose=feathers; wheat=grain; cocoa tree=cocoa;
            orange tree=oranges; plum tree=plums; oyster=pearls"""),
        lines("""
            the product of {an}
            the thing that people get from {an}
            the useful thing that {an} gives us"""),
        lines("""
            What do we get from {an}?
            What does {an} give us?
            What do people get from {an}?
            {an} gives us what?
            What useful thing comes from {an}?
            What does {an} produce?
            Which good thing do we take from {an}?"""),
        lines("""
            What would a farmer collect from {an}?
            What is it that {an} makes for people?
            For which product do people keep or grow {an}?"""),
        lines("""
            {an} gives us {a}.
            We get {a} from {an}.
            The product of {an} is {a}.
            {a} come to us from {an}."""),
    ),
)
